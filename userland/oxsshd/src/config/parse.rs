//! The syntax of sshd_config: lines of a keyword and its arguments, files that include others, and Match blocks.
//!
//! Everything is checked when it is read. Lines of Match blocks are kept with their conditions and put in force for
//! each client anew ([`Conditional`]): a block's value comes before what the rest of the file says, and of several
//! blocks the first.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::condition::{Client, Condition};
use super::include::files;
use super::line::{Directive, directive};
use super::{Config, keyword};

/// How deep files may include files.
const MAX_DEPTH: usize = 16;

/// What is wrong with a line, in OpenSSH's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.text)
    }
}

/// A line of a Match block.
#[derive(Clone, Debug)]
pub struct Conditional {
    /// Those of all blocks that it is in.
    conditions: Arc<[Condition]>,
    directive: Directive,
}

/// Puts the lines in force that fit `client`.
pub fn put_in_force(config: &mut Config, lines: &[Conditional], client: &Client) {
    let mut seen = BTreeSet::new();
    for line in lines {
        if !line
            .conditions
            .iter()
            .all(|condition| condition.fits(client))
        {
            continue;
        }
        let Directive { keyword, words, .. } = &line.directive;
        let adds_up = keyword::adds_up(keyword);
        let name = match keyword.as_str() {
            "subsystem" => words.first().map(String::as_str).unwrap_or_default(),
            _ => "",
        };
        if seen.insert((keyword, name)) {
            keyword::clear(config, keyword, name);
        } else if !adds_up || keyword == "subsystem" {
            continue;
        }
        line.apply(config);
    }
}

impl Conditional {
    /// Puts the line in force.
    pub fn apply(&self, config: &mut Config) {
        let line = &self.directive;
        // It was checked when it was read.
        let _ = keyword::apply(config, &line.original, &line.keyword, &line.words);
    }
}

/// Which clients lines are for.
#[derive(Clone)]
struct Scope {
    conditions: Arc<[Condition]>,
    /// It is everybody.
    all: bool,
}

impl Scope {
    fn everybody() -> Scope {
        Scope {
            conditions: Arc::new([]),
            all: true,
        }
    }
}

/// Reads the command line's options and then a file.
#[derive(Default)]
pub struct Parser {
    config: Config,
    seen: BTreeSet<String>,
    conditional: Vec<Conditional>,
    /// The command line names ports, and the file's have no effect.
    own_ports: bool,
    problems: Vec<Problem>,
}

impl Parser {
    /// Takes a line of the command line (`-o`).
    pub fn command_line(&mut self, line: &str) {
        let everybody = Scope::everybody();
        let result = directive(line).and_then(|line| match line {
            Some(line) if line.keyword == "match" || line.keyword == "include" => Err(format!(
                "{} directive not supported as a command-line option",
                line.original
            )),
            Some(line) => self.take(line, &everybody),
            None => Ok(()),
        });
        self.note(result, "command-line", 0);
        self.own_ports = !self.config.ports.is_empty();
    }

    /// Takes the text of `file`, which is a name for messages.
    pub fn file(&mut self, text: &str, file: &str) {
        self.text(text, file, 0, Scope::everybody());
    }

    /// # Errors
    /// One problem for each line that is wrong.
    pub fn finish(mut self) -> Result<Config, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.config.conditional = self.conditional.into();
        self.config.fill();
        Ok(self.config)
    }

    fn note(&mut self, result: Result<(), String>, file: &str, line: usize) {
        if let Err(text) = result {
            self.problems.push(Problem {
                file: file.to_string(),
                line,
                text,
            });
        }
    }

    fn text(&mut self, text: &str, file: &str, depth: usize, outer: Scope) {
        let mut scope = outer.clone();
        for (index, line) in text.lines().enumerate() {
            let result = directive(line).and_then(|line| match line {
                None => Ok(()),
                Some(line) if line.keyword == "match" => {
                    let condition = Condition::parse(&line.words)?;
                    scope.all = outer.all && condition.is_all();
                    let conditions = outer.conditions.iter().cloned();
                    scope.conditions = conditions.chain([condition]).collect();
                    Ok(())
                }
                Some(line) if line.keyword == "include" => {
                    self.include(&line.words, depth + 1, &scope)
                }
                Some(line) => self.take(line, &scope),
            });
            self.note(result, file, index + 1);
        }
    }

    /// Reads files whose names fit the patterns. What they say holds for whom the line is that includes them.
    fn include(&mut self, patterns: &[String], depth: usize, scope: &Scope) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("Too many recursive configuration includes".into());
        }
        for pattern in patterns {
            if pattern.is_empty() {
                return Err("keyword Include empty argument".into());
            }
            for path in files(pattern)? {
                let name = path.display().to_string();
                let text =
                    std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
                self.text(&text, &name, depth, scope.clone());
            }
        }
        Ok(())
    }

    fn take(&mut self, line: Directive, scope: &Scope) -> Result<(), String> {
        let Directive {
            original,
            keyword,
            words,
        } = &line;
        // What is for some, or comes second, is checked without effect.
        let mut scratch;
        let may_differ = keyword::may_differ(keyword);
        let counts = scope.all
            && (keyword::adds_up(keyword) || self.seen.insert(keyword.clone()))
            && !(keyword == "port" && self.own_ports);
        let config = if counts {
            &mut self.config
        } else {
            scratch = self.config.clone();
            &mut scratch
        };
        keyword::apply(config, original, keyword, words)?;
        if !scope.all && !may_differ {
            return Err(format!(
                "Directive '{original}' is not allowed within a Match block"
            ));
        }
        if !scope.conditions.is_empty() && may_differ {
            self.conditional.push(Conditional {
                conditions: scope.conditions.clone(),
                directive: line,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::PermitRoot;
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "file").unwrap()
    }

    fn problem(text: &str) -> String {
        Config::parse(text, "f")
            .map(|_| ())
            .unwrap_err()
            .iter()
            .map(|p| p.to_string() + "|")
            .collect()
    }

    #[test]
    fn defaults_are_openssh_s() {
        let config = config("");
        assert_eq!(config.ports, [22]);
        assert_eq!(config.permit_root, PermitRoot::ProhibitPassword);
        assert!(!config.permit_empty_passwords);
        assert!(config.strict_modes);
        assert_eq!(config.login_grace, Duration::from_secs(120));
    }

    #[test]
    fn first_value_counts_and_lists_add_up() {
        let config = config(
            "permitrootlogin no\nPermitRootLogin yes\nPort 22\nPort 2222\nAcceptEnv LANG LC_*\nAcceptEnv TZ\n",
        );
        assert_eq!(config.permit_root, PermitRoot::No);
        assert_eq!(config.ports, [22, 2222]);
        assert_eq!(config.accept_env, ["LANG", "LC_*", "TZ"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(
            problem("\nPrt 22\n"),
            "f line 2: Bad configuration option: Prt|"
        );
        assert_eq!(
            problem("PermitRootLogin maybe"),
            "f line 1: unsupported option \"maybe\".|"
        );
        assert_eq!(problem("Port"), "f line 1: Port: missing argument.|");
        assert_eq!(
            problem("Port 70000"),
            "f line 1: Badly formatted port number.|"
        );
        assert_eq!(
            problem("X11Forwarding yes"),
            "f line 1: X11Forwarding is not supported; only \"no\" is|"
        );
        assert_eq!(
            problem("StrictModes yes no"),
            "f line 1: keyword StrictModes extra arguments at end of line|"
        );
        assert_eq!(
            problem("Port 1\nPort x\nFoo y"),
            "f line 2: Badly formatted port number.|f line 3: Bad configuration option: Foo|"
        );
        // A second value has no effect and is checked all the same.
        assert_eq!(
            problem("UseDNS no\nUseDNS yes"),
            "f line 2: UseDNS is not supported; only \"no\" is|"
        );
    }

    #[test]
    fn subsystems_and_rekey() {
        let config = config("Subsystem sftp internal-sftp -l INFO\nRekeyLimit 512M 1h\n");
        assert_eq!(config.subsystem("sftp"), Some("internal-sftp -l INFO"));
        assert_eq!(config.rekey_bytes, 512 << 20);
        assert_eq!(config.rekey_time, Duration::from_secs(3600));
        assert!(problem("Subsystem sftp").contains("Missing subsystem command"));
    }

    fn effective(text: &str, client: &str) -> Config {
        let mut who = Client {
            groups: vec!["staff".into()],
            ..Client::default()
        };
        if !client.is_empty() {
            who.add_test_values(client).unwrap();
        }
        config(text).for_client(&who)
    }

    #[test]
    fn blocks_come_before_the_rest() {
        let text = "AcceptEnv LANG\nBanner /a\n\
                    Match User ada\n  Banner none\n  PermitTTY no\n  AcceptEnv TZ\n\
                    Match Group staff User ada\n  PermitTTY yes\n  AcceptEnv LC_*\n  MaxAuthTries 2\n\
                    Match all\n  X11Forwarding no\n  MaxSessions 3\n";
        let ada = effective(text, "user=ada");
        assert_eq!(ada.banner, None);
        assert!(!ada.permit_tty, "the first block's value counts");
        assert_eq!(ada.accept_env, ["TZ", "LC_*"]);
        assert_eq!((ada.max_auth_tries, ada.max_sessions), (2, 3));
        let bob = effective(text, "user=bob");
        assert_eq!(bob.banner, Some("/a".into()));
        assert_eq!(bob.accept_env, ["LANG"]);
        assert_eq!((bob.max_auth_tries, bob.max_sessions), (6, 3));
        // Also where nothing is known of the client, and for those who ask before one is there.
        assert_eq!(config(text).max_sessions, 3);
        assert_eq!(config(text).most_auth_tries(), 6);
        assert_eq!(config("Match User x\nMaxAuthTries 9").most_auth_tries(), 9);
    }

    #[test]
    fn forwarding_can_be_given_back() {
        let text = "DisableForwarding yes\nMatch User ada\nDisableForwarding no\n";
        assert!(effective(text, "user=ada").tcp_forwarding().local);
        assert!(!effective(text, "user=bob").tcp_forwarding().local);
        let text =
            "Subsystem sftp a\nMatch User ada\nSubsystem sftp b\nSubsystem sftp c\nSubsystem x d\n";
        let ada = effective(text, "user=ada");
        assert_eq!(
            (ada.subsystem("sftp"), ada.subsystem("x")),
            (Some("b"), Some("d"))
        );
        assert_eq!(effective(text, "").subsystem("sftp"), Some("a"));
    }

    #[test]
    fn blocks_have_only_what_can_differ() {
        assert_eq!(
            problem("Match User x\nPort 23\nFoo y\nPermitTTY maybe\nMatch Address 10.0.0.1/8\n"),
            "f line 2: Directive 'Port' is not allowed within a Match block|\
             f line 3: Bad configuration option: Foo|\
             f line 4: unsupported option \"maybe\".|\
             f line 5: Bad Match condition: invalid Address list '10.0.0.1/8'|"
        );
        assert_eq!(
            problem("Match"),
            "f line 1: One or more attributes required for Match|"
        );
        // This ends a block.
        assert_eq!(config("Match User x\nMatch all\nPort 23\n").ports, [23]);
    }

    #[test]
    fn files_are_included_for_whom_the_line_is() {
        let folder = std::env::temp_dir().join(format!("oxsshd-include-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        write("10.conf", "PermitTTY no\nMatch User ada\nMaxSessions 2\n");
        write("20.conf", "PermitTTY yes\nMaxSessions 7\n");
        write("other", "Foo\n");
        let text = format!("Include {} {}\nMaxAuthTries 5\n", at("*.conf"), at("none"));
        let of = effective(&text, "user=bob");
        assert!(!of.permit_tty);
        assert_eq!((of.max_sessions, of.max_auth_tries), (7, 5));
        assert_eq!(effective(&text, "user=ada").max_sessions, 2);

        // In a block the file's lines are the block's, and its own blocks for those who fit both.
        let text = format!(
            "Match LocalPort 22\nInclude {}\nMaxAuthTries 5\n",
            at("10.conf")
        );
        let of = effective(&text, "user=ada,lport=22");
        assert_eq!(
            (of.permit_tty, of.max_sessions, of.max_auth_tries),
            (false, 2, 5)
        );
        let of = effective(&text, "user=ada,lport=23");
        assert_eq!(
            (of.permit_tty, of.max_sessions, of.max_auth_tries),
            (true, 10, 6)
        );

        let name = at("other");
        assert_eq!(
            problem(&format!("\nInclude \"{name}\"")),
            format!("{name} line 1: Foo: missing argument.|")
        );
        assert!(problem(&format!("Include {}", folder.display())).contains("directory"));
        write("loop", &format!("Include {}\n", at("loop")));
        assert!(
            problem(&format!("Include {}", at("loop")))
                .ends_with("loop line 1: Too many recursive configuration includes|")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_command_line_comes_first() {
        let mut parser = Parser::default();
        parser.command_line("Port 2222");
        parser.command_line("PermitTTY=no");
        parser.file("Port 22\nPermitTTY yes\n", "f");
        let config = parser.finish().unwrap();
        assert_eq!((config.ports, config.permit_tty), (vec![2222], false));
        let mut parser = Parser::default();
        parser.command_line("Match User x");
        assert_eq!(
            parser.finish().unwrap_err()[0].to_string(),
            "command-line line 0: Match directive not supported as a command-line option"
        );
    }
}
