//! The daemon's command line (man 8 sshd).

use crate::config::{Config, DEFAULT_FILE};

const USAGE: &str = "usage: sshd [-46DdeqTtV] [-E log_file] [-f config_file] [-h host_key_file] [-o option] [-p port]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Serve,
    /// `-t`: check the configuration.
    Test,
    /// `-T`: and print it.
    Print,
    Version,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    /// `-D`
    pub foreground: bool,
    /// `-d`: one connection, in this process, with everything logged.
    pub debug: bool,
    /// `-e`
    pub stderr: bool,
    pub quiet: bool,
    pub log_file: Option<String>,
    file: Option<String>,
    /// Lines that come before the file's, and so before its values.
    lines: Vec<String>,
}

impl Options {
    /// # Errors
    /// What to print about words that are not understood.
    pub fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options {
            mode: Mode::Serve,
            foreground: false,
            debug: false,
            stderr: false,
            quiet: false,
            log_file: None,
            file: None,
            lines: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
                return Err(format!("Extra argument {word}.\n{USAGE}"));
            };
            let mut rest = flags.chars();
            while let Some(flag) = rest.next() {
                match flag {
                    'D' => options.foreground = true,
                    'd' => options.debug = true,
                    'e' => options.stderr = true,
                    'q' => options.quiet = true,
                    't' => options.mode = Mode::Test,
                    'T' => options.mode = Mode::Print,
                    'V' => options.mode = Mode::Version,
                    '4' => options.lines.push("AddressFamily inet".into()),
                    '6' => options.lines.push("AddressFamily inet6".into()),
                    'E' | 'f' | 'h' | 'o' | 'p' => {
                        let attached: String = rest.by_ref().collect();
                        let value = if attached.is_empty() {
                            words.next().cloned()
                        } else {
                            Some(attached)
                        };
                        let value = value
                            .ok_or(format!("option requires an argument -- '{flag}'\n{USAGE}"))?;
                        match flag {
                            // The daemon's directory is another one when it reads the file again.
                            'f' => options.file = Some(absolute(&value)),
                            'E' => options.log_file = Some(absolute(&value)),
                            'h' => options.lines.push(format!("HostKey \"{value}\"")),
                            'p' => options.lines.push(format!("Port {value}")),
                            _ => options.lines.push(value),
                        }
                    }
                    _ => return Err(format!("unknown option -- {flag}\n{USAGE}")),
                }
            }
        }
        Ok(options)
    }

    /// Reads the configuration: options of the command line, then the file. A default file that is not there is empty.
    ///
    /// # Errors
    /// Lines for standard error.
    pub fn read_config(&self) -> Result<Config, Vec<String>> {
        let file = self.file.as_deref().unwrap_or(DEFAULT_FILE);
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if self.file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(error) => return Err(vec![format!("{file}: {error}")]),
        };
        self.config_from(&text, file)
    }

    fn config_from(&self, text: &str, file: &str) -> Result<Config, Vec<String>> {
        // Ports and addresses of the command line replace the file's; other lists add up.
        let replaced = |line: &&str| {
            let own_port = self.lines.iter().any(|line| line.starts_with("Port "));
            !(own_port && line.trim_start().to_ascii_lowercase().starts_with("port"))
        };
        let kept: Vec<&str> = text
            .lines()
            .map(|line| if replaced(&line) { line } else { "" })
            .collect();
        let nr_own = self.lines.len();
        let all = self
            .lines
            .iter()
            .map(String::as_str)
            .chain(kept)
            .collect::<Vec<_>>()
            .join("\n");
        Config::parse(&all, file).map_err(|problems| {
            let count = problems.len();
            let mut lines: Vec<String> = problems
                .into_iter()
                .map(|mut problem| {
                    if problem.line <= nr_own {
                        problem.file = "command-line".into();
                        problem.line = 0;
                    } else {
                        problem.line -= nr_own;
                    }
                    problem.to_string()
                })
                .collect();
            lines.push(format!(
                "{file}: terminating, {count} bad configuration options"
            ));
            lines
        })
    }
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or(path.to_string(), |path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(
            &words
                .iter()
                .map(|word| word.to_string())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn flags_with_and_without_values() {
        let options = parse(&["-De", "-p", "2222", "-f/etc/x", "-oPermitRootLogin=no"]).unwrap();
        assert!(options.foreground && options.stderr);
        assert_eq!(options.file.as_deref(), Some("/etc/x"));
        let config = options
            .config_from("Port 22\nPermitRootLogin yes\n", "f")
            .unwrap();
        assert_eq!(config.ports, [2222]);
        assert_eq!(config.permit_root, crate::config::PermitRoot::No);
        assert!(parse(&["-p"]).is_err());
        assert!(parse(&["-Z"]).is_err());
        assert!(parse(&["x"]).is_err());
    }

    #[test]
    fn lines_are_counted_in_the_file() {
        let options = parse(&["-p", "2222"]).unwrap();
        let messages = options.config_from("Port 22\nFoo x\n", "f").unwrap_err();
        assert_eq!(
            messages,
            [
                "f line 2: Bad configuration option: Foo",
                "f: terminating, 1 bad configuration options"
            ]
        );
        let options = parse(&["-o", "Foo=x"]).unwrap();
        assert_eq!(
            options.config_from("", "f").unwrap_err()[0],
            "command-line line 0: Bad configuration option: Foo"
        );
    }
}
