//! The daemon's command line (man 8 sshd).

use crate::auth::account::Account;
use crate::config::{Client, Config, DEFAULT_FILE, Parser};

const USAGE: &str = "usage: sshd [-46DdeqTtV] [-C connection_spec] [-E log_file] [-f config_file] [-h host_key_file] [-o option] [-p port]";

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
    /// `-C`: whom `-T` prints the configuration for.
    client: Option<Client>,
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
            client: None,
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
                    'C' | 'E' | 'f' | 'h' | 'o' | 'p' => {
                        let attached: String = rest.by_ref().collect();
                        let value = if attached.is_empty() {
                            words.next().cloned()
                        } else {
                            Some(attached)
                        };
                        let value = value
                            .ok_or(format!("option requires an argument -- '{flag}'\n{USAGE}"))?;
                        match flag {
                            'C' => options
                                .client
                                .get_or_insert_default()
                                .add_test_values(&value)?,
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
        if options.client.is_some() && options.mode != Mode::Print {
            let text = "Config test connection parameter (-C) provided without test mode (-T)";
            return Err(text.into());
        }
        Ok(options)
    }

    /// What `-T` prints: the configuration for the client of `-C`, and without that for one that only `Match all` fits.
    pub fn text_of(&self, config: &Config) -> String {
        let mut client = self.client.clone().unwrap_or_default();
        if let Some(user) = &client.user {
            client.groups = Account::find(user).map_or(Vec::new(), |account| account.group_names());
        }
        config.for_client(&client).print()
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
        let mut parser = Parser::default();
        for line in &self.lines {
            parser.command_line(line);
        }
        parser.file(text, file);
        parser.finish().map_err(|problems| {
            let count = problems.len();
            let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
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
        assert!(parse(&["-C", "user=x"]).is_err());
        assert!(parse(&["-T", "-C", "colour=red"]).is_err());
        assert!(parse(&["x"]).is_err());
    }

    #[test]
    fn the_configuration_of_a_client_is_printed() {
        let text = "Match User ada Address 10.0.0.0/8\nMaxSessions 1\n";
        for (spec, line) in [
            ("user=ada,addr=10.1.1.1", "\nmaxsessions 1\n"),
            ("user=ada,addr=11.1.1.1", "\nmaxsessions 10\n"),
            ("user=ada", "\nmaxsessions 10\n"),
        ] {
            let options = parse(&["-T", "-C", spec]).unwrap();
            let config = options.config_from(text, "f").unwrap();
            assert!(options.text_of(&config).contains(line), "{spec}");
        }
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
