//! Commands: their names, how many addresses each takes, and their arguments.

use super::{Action, Address, Command, Parser, Res, When, fail};
use oxbow_regex::byte_escape;

impl Parser<'_> {
    pub(super) fn whole(&mut self) -> Res<()> {
        loop {
            self.skip(|b| b.is_ascii_whitespace() || b == b';');
            if self.peek().is_none() {
                break;
            }
            self.command()?;
        }
        if !self.blocks.is_empty() {
            self.at = 0;
            return fail("unmatched `{'");
        }
        for (command, label) in std::mem::take(&mut self.jumps) {
            let place = match self.labels.get(&label) {
                Some(place) => *place,
                None => {
                    self.at = usize::MAX;
                    return fail(format!(
                        "can't find label for jump to `{}'",
                        String::from_utf8_lossy(&label)
                    ));
                }
            };
            if let Action::Branch(_, target) = &mut self.commands[command].action {
                *target = place;
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Res<()> {
        let from = self.address()?;
        let mut to = None;
        self.skip_blanks();
        if from.is_some() && self.take(b',') {
            self.skip_blanks();
            to = if self.take(b'+') {
                Some(Address::Plus(
                    self.number().ok_or("expected a number after `+'")?,
                ))
            } else if self.take(b'~') {
                Some(Address::Multiple(self.number().unwrap_or(0)))
            } else {
                self.address()?
            };
            if to.is_none() {
                self.at += 1;
                return fail("unexpected `,'");
            }
        }
        if matches!(from, Some(Address::Line(0))) && !matches!(to, Some(Address::Regex(_))) {
            self.at += 1;
            return fail("invalid usage of line address 0");
        }
        self.skip_blanks();
        let mut negated = false;
        while self.take(b'!') {
            negated = true;
            self.skip_blanks();
        }
        let Some(name) = self.peek().filter(|b| *b != b'\n') else {
            return fail("missing command");
        };
        self.at += 1;
        let addresses = usize::from(from.is_some()) + usize::from(to.is_some());
        let index = self.commands.len();
        self.commands.push(Command {
            from,
            to,
            negated,
            action: Action::Nothing,
        });
        let action = self.action(name, addresses, index)?;
        self.commands[index].action = action;
        Ok(())
    }

    fn action(&mut self, name: u8, addresses: usize, index: usize) -> Res<Action> {
        let simple = match name {
            b'{' => {
                self.blocks.push(index);
                return Ok(Action::Block(0));
            }
            b'}' => {
                if addresses > 0 {
                    return fail("} doesn't want any addresses");
                }
                let Some(open) = self.blocks.pop() else {
                    return fail("unexpected `}'");
                };
                self.commands[open].action = Action::Block(index);
                Action::Nothing
            }
            b'#' => {
                if addresses > 0 {
                    return fail("comments don't accept any addresses");
                }
                self.skip(|b| b != b'\n');
                return Ok(Action::Nothing);
            }
            b':' => {
                if addresses > 0 {
                    return fail(": doesn't want any addresses");
                }
                let label = self.label();
                if label.is_empty() {
                    return fail("\":\" lacks a label");
                }
                self.labels.insert(label, index);
                return Ok(Action::Nothing);
            }
            b'a' | b'i' | b'c' => {
                let text = self.text_argument();
                return Ok(match name {
                    b'a' => Action::Append(text),
                    b'i' => Action::Insert(text),
                    _ => Action::Change(text),
                });
            }
            b'b' | b't' | b'T' => {
                let when = match name {
                    b'b' => When::Always,
                    b't' => When::Substituted,
                    _ => When::NotSubstituted,
                };
                let label = self.label();
                if !label.is_empty() {
                    self.jumps.push((index, label));
                }
                Action::Branch(when, usize::MAX)
            }
            b'r' | b'R' | b'w' | b'W' => {
                self.sandboxed()?;
                let file = self.rest_of_line();
                if file.is_empty() {
                    return fail("missing filename in r/R/w/W commands");
                }
                return Ok(match name {
                    b'r' => Action::Read(file),
                    b'R' => Action::ReadLine(file),
                    b'w' => Action::Write(file),
                    _ => Action::WriteLine(file),
                });
            }
            b'e' => {
                self.sandboxed()?;
                return Ok(Action::Execute(self.rest_of_line()));
            }
            b's' => return self.substitution(),
            b'y' => self.translation()?,
            b'q' | b'Q' => {
                if addresses > 1 {
                    return fail("command only uses one address");
                }
                self.skip_blanks();
                let status = self.number().unwrap_or(0);
                Action::Quit {
                    status: (status & 255) as i32,
                    print: name == b'q',
                }
            }
            b'l' | b'L' => {
                self.skip_blanks();
                Action::List(self.number())
            }
            b'd' => Action::Delete,
            b'D' => Action::DeleteLine,
            b'F' => Action::FileName,
            b'g' => Action::Get,
            b'G' => Action::GetAppend,
            b'h' => Action::Hold,
            b'H' => Action::HoldAppend,
            b'n' => Action::Next,
            b'N' => Action::NextAppend,
            b'p' => Action::Print,
            b'P' => Action::PrintLine,
            b'x' => Action::Exchange,
            b'z' => Action::Zap,
            b'=' => Action::LineNumber,
            _ => return fail(format!("unknown command: `{}'", char::from(name))),
        };
        self.ended()?;
        Ok(simple)
    }

    pub(super) fn sandboxed(&self) -> Res<()> {
        match self.settings.sandbox {
            true => fail("e/r/w commands disabled in sandbox mode"),
            false => Ok(()),
        }
    }

    /// Nothing but `;`, `}`, `#` or a newline may follow.
    pub(super) fn ended(&mut self) -> Res<()> {
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n' | b';' | b'}' | b'#') => Ok(()),
            Some(_) => {
                self.at += 1;
                fail("extra characters after command")
            }
        }
    }

    fn label(&mut self) -> Vec<u8> {
        self.skip_blanks();
        let start = self.at;
        self.skip(|b| !b.is_ascii_whitespace() && b != b';' && b != b'}');
        self.text[start..self.at].to_vec()
    }

    pub(super) fn rest_of_line(&mut self) -> Vec<u8> {
        self.skip_blanks();
        let start = self.at;
        self.skip(|b| b != b'\n');
        self.text[start..self.at].to_vec()
    }

    /// The text of a, i and c, in the old form after `\` and newline or on the line of the command.
    fn text_argument(&mut self) -> Vec<u8> {
        self.skip_blanks();
        if self.take(b'\\') {
            let line = self.at;
            self.skip_blanks();
            if !self.take(b'\n') {
                self.at = line;
            } else if self.peek().is_none() {
                return Vec::new();
            }
        }
        let mut out = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\n' => break,
                b'\\' => {
                    let rest = &self.text[self.at..];
                    // A backslash at the very end of the script is none.
                    if rest == b"\n" {
                        self.at += 1;
                        if out.is_empty() {
                            return out;
                        }
                    } else if let Some((escaped, used)) =
                        byte_escape(rest, false).filter(|_| !out.is_empty())
                    {
                        out.push(escaped);
                        self.at += used;
                    } else if let Some(next) = self.peek() {
                        out.push(next);
                        self.at += 1;
                    }
                }
                _ => out.push(byte),
            }
        }
        out.push(b'\n');
        out
    }
}
