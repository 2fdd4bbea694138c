//! The command line, read as bash reads its own.
//!
//! By hand rather than with an argument-parsing library: the shell starts for
//! every script and every `system(3)`, and building a parser costs more than
//! all the rest of its start-up.

use std::io::IsTerminal as _;

/// Printed for `--help`.
pub const HELP: &str = "\
Usage: oxsh [options] [script [argument...]]
       oxsh [options] -c command [name [argument...]]
       oxsh [options] -s [argument...]

  -c              run the command given as the first argument
  -s              read commands from standard input
  -i              interactive, even when standard input is not a terminal
  -l, --login     login shell: read /etc/profile and ~/.profile
  -o, +o OPTION   switch an option of `set -o` on or off
  -O, +O OPTION   switch an option of `shopt` on or off
  -abefhkmnptuvxBCEHPT
                  the options of `set`, see `help set`
  --norc          do not read ~/.bashrc in an interactive shell
  --noprofile     do not read profile files in a login shell
  --rcfile FILE   read FILE in place of ~/.bashrc
  --posix         follow POSIX where bash differs from it
  --version, --help
";

/// Names the shell and the interpreter inside it.
pub fn version() -> String {
    format!(
        "oxsh {} (brush, bash-compatible), x86_64",
        env!("CARGO_PKG_VERSION")
    )
}

/// Where commands come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Command(String),
    Script(String),
    Stdin,
    Help,
    Version,
}

/// The command line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `$0`.
    pub name: String,
    pub source: Source,
    /// `$1` and on.
    pub arguments: Vec<String>,
    pub interactive: bool,
    pub login: bool,
    pub posix: bool,
    pub no_rc: bool,
    pub no_profile: bool,
    pub rc_file: Option<String>,
    /// Names of `set -o` options to switch.
    pub set_on: Vec<String>,
    pub set_off: Vec<String>,
    /// Names of `shopt` options to switch.
    pub shopt_on: Vec<String>,
    pub shopt_off: Vec<String>,
}

/// The `set -o` name of each single-letter option.
fn set_option_name(letter: char) -> Option<&'static str> {
    Some(match letter {
        'a' => "allexport",
        'b' => "notify",
        'e' => "errexit",
        'f' => "noglob",
        'h' => "hashall",
        'k' => "keyword",
        'm' => "monitor",
        'n' => "noexec",
        'p' => "privileged",
        't' => "onecmd",
        'u' => "nounset",
        'v' => "verbose",
        'x' => "xtrace",
        'B' => "braceexpand",
        'C' => "noclobber",
        'E' => "errtrace",
        'H' => "histexpand",
        'P' => "physical",
        'T' => "functrace",
        _ => return None,
    })
}

/// Takes `args` (with the program's name first) apart. The error is a message
/// for the user.
pub fn parse(args: Vec<String>) -> Result<Options, String> {
    parse_with(args, || {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    })
}

fn parse_with(args: Vec<String>, on_terminal: impl Fn() -> bool) -> Result<Options, String> {
    let mut args = args.into_iter();
    let argv0 = args.next().unwrap_or_else(|| "oxsh".to_owned());
    let mut options = Options {
        login: argv0.starts_with('-'),
        name: argv0,
        source: Source::Stdin,
        arguments: Vec::new(),
        interactive: false,
        posix: false,
        no_rc: false,
        no_profile: false,
        rc_file: None,
        set_on: Vec::new(),
        set_off: Vec::new(),
        shopt_on: Vec::new(),
        shopt_off: Vec::new(),
    };
    let mut command = false;
    let mut from_stdin = false;
    let mut operands: Vec<String> = Vec::new();

    while let Some(arg) = args.next() {
        if arg == "--" || arg == "-" {
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            match long {
                "help" => options.source = Source::Help,
                "version" => options.source = Source::Version,
                "login" => options.login = true,
                "posix" => options.posix = true,
                "norc" => options.no_rc = true,
                "noprofile" => options.no_profile = true,
                "noediting" => {}
                "verbose" => options.set_on.push("verbose".to_owned()),
                "rcfile" | "init-file" => {
                    options.rc_file = Some(args.next().ok_or(format!("{arg}: needs a file"))?);
                }
                _ => return Err(format!("{arg}: invalid option")),
            }
            continue;
        }
        let (on, letters) = match (arg.strip_prefix('-'), arg.strip_prefix('+')) {
            (Some(letters), _) => (true, letters),
            (_, Some(letters)) if !letters.is_empty() => (false, letters),
            _ => {
                operands.push(arg);
                break;
            }
        };
        for letter in letters.chars() {
            match letter {
                'c' if on => command = true,
                's' if on => from_stdin = true,
                'i' if on => options.interactive = true,
                'l' if on => options.login = true,
                'o' | 'O' => {
                    let name = args
                        .next()
                        .ok_or(format!("{arg}: needs the name of an option"))?;
                    match (letter, on) {
                        ('o', true) => options.set_on.push(name),
                        ('o', false) => options.set_off.push(name),
                        (_, true) => options.shopt_on.push(name),
                        (_, false) => options.shopt_off.push(name),
                    }
                }
                _ => {
                    let name = set_option_name(letter)
                        .ok_or(format!("{arg}: invalid option"))?
                        .to_owned();
                    if on {
                        options.set_on.push(name);
                    } else {
                        options.set_off.push(name);
                    }
                }
            }
        }
    }
    operands.extend(args);
    if matches!(options.source, Source::Help | Source::Version) {
        return Ok(options);
    }

    let mut operands = operands.into_iter();
    if command {
        let text = operands
            .next()
            .ok_or("-c: option requires an argument".to_owned())?;
        options.source = Source::Command(text);
        if let Some(name) = operands.next() {
            options.name = name;
        }
    } else if !from_stdin && let Some(path) = operands.next() {
        options.name.clone_from(&path);
        options.source = Source::Script(path);
    }
    options.arguments = operands.collect();
    if options.source == Source::Stdin && !options.interactive {
        options.interactive = options.arguments.is_empty() && on_terminal();
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Options {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        parse_with(args, || true).expect("valid command line")
    }

    #[test]
    fn command_takes_name_and_arguments() {
        let options = parsed(&["sh", "-ec", "echo $1", "zero", "one"]);
        assert_eq!(options.source, Source::Command("echo $1".into()));
        assert_eq!(options.name, "zero");
        assert_eq!(options.arguments, ["one"]);
        assert_eq!(options.set_on, ["errexit"]);
        assert!(!options.interactive);
    }

    #[test]
    fn script_keeps_its_own_options() {
        let options = parsed(&["bash", "-x", "./run", "-c", "x"]);
        assert_eq!(options.source, Source::Script("./run".into()));
        assert_eq!(options.arguments, ["-c", "x"]);
    }

    #[test]
    fn dash_in_argv0_means_login() {
        let options = parsed(&["-oxsh"]);
        assert!(options.login && options.interactive);
        assert_eq!(options.source, Source::Stdin);
    }

    #[test]
    fn named_options_consume_their_argument() {
        let options = parsed(&["sh", "-o", "pipefail", "+O", "extglob", "-s", "a"]);
        assert_eq!(options.set_on, ["pipefail"]);
        assert_eq!(options.shopt_off, ["extglob"]);
        assert_eq!(options.arguments, ["a"]);
    }

    #[test]
    fn bad_options_are_refused() {
        let args = vec!["sh".to_owned(), "-Z".to_owned()];
        assert!(parse_with(args, || false).is_err());
        let args = vec!["sh".to_owned(), "-c".to_owned()];
        assert!(parse_with(args, || false).is_err());
    }
}
