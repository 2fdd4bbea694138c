//! Lines of sshd_config: a keyword and its arguments, in double quotes where they have blanks.

use super::keyword;

/// A line with at least one argument.
#[derive(Clone, Debug)]
pub struct Directive {
    /// The keyword as it is written.
    pub original: String,
    pub keyword: String,
    pub words: Vec<String>,
}

/// The keyword and arguments of a line; `None` for an empty one or a comment.
pub fn directive(line: &str) -> Result<Option<Directive>, String> {
    let mut words = words(line).ok_or("missing end quote")?;
    if words.is_empty() {
        return Ok(None);
    }
    let original = words.remove(0);
    let keyword = keyword::canonical(&original);
    // A Match line has its own words for it.
    if words.is_empty() && keyword != "match" {
        return Err(format!("{original}: missing argument."));
    }
    Ok(Some(Directive {
        original,
        keyword,
        words,
    }))
}

/// Splits a line into words; `None` for a quote that is not closed. `#` starts a comment where a word could start.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.peek().is_some_and(|c| c.is_whitespace()) {
            chars.next();
        }
        match chars.peek() {
            None | Some('#') => return Some(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quoted = false;
        loop {
            match chars.peek().copied() {
                None if quoted => return None,
                None => break,
                Some('"') => quoted = !quoted,
                Some(c) if c.is_whitespace() && !quoted => break,
                // `Keyword=value` is allowed.
                Some('=') if words.is_empty() && !quoted => {
                    chars.next();
                    break;
                }
                Some(c) => word.push(c),
            }
            chars.next();
        }
        words.push(word);
        // `Keyword = value` too.
        if words.len() == 1 {
            while chars.peek().is_some_and(|c| c.is_whitespace()) {
                chars.next();
            }
            if chars.peek() == Some(&'=') {
                chars.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(words("  Port 22 # ssh").unwrap(), ["Port", "22"]);
        assert_eq!(
            words("Banner \"/etc/my issue\"").unwrap(),
            ["Banner", "/etc/my issue"]
        );
        assert_eq!(words("Port=22").unwrap(), ["Port", "22"]);
        assert_eq!(words("Port = 22").unwrap(), ["Port", "22"]);
        assert_eq!(words("ForceCommand a=b").unwrap(), ["ForceCommand", "a=b"]);
        assert!(words("Banner \"x").is_none());
        assert!(words("#Port 22").unwrap().is_empty());
    }
}
