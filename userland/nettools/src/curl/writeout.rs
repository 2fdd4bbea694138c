//! curl's `-w`: a format with `%{variables}`, filled in when a transfer is over.

use std::time::Duration;

/// What there is to tell of a transfer.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub status: u16,
    pub redirects: u64,
    pub url: String,
    pub redirect_url: String,
    pub method: String,
    pub scheme: String,
    pub content_type: String,
    pub file: String,
    pub remote_ip: String,
    pub remote_port: u16,
    pub http_version: String,
    pub downloaded: u64,
    pub uploaded: u64,
    pub header_bytes: u64,
    pub name_lookup: Duration,
    pub connect: Duration,
    pub tls: Duration,
    pub first_byte: Duration,
    pub total: Duration,
    pub exit_code: i32,
    pub error: String,
    /// Of the last answer.
    pub headers: Vec<(String, String)>,
}

/// `format` with what it names put in.
pub fn fill(format: &str, facts: &Facts) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['%', '\\']) {
        out += &rest[..at];
        let after = &rest[at + 1..];
        let mut next = after.chars();
        match (&rest[at..=at], next.next()) {
            ("\\", Some(letter)) => {
                match letter {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                }
                rest = next.as_str();
            }
            ("%", Some('%')) => {
                out.push('%');
                rest = next.as_str();
            }
            ("%", Some('{')) if after.contains('}') => {
                let end = after.find('}').unwrap_or(1);
                out += &variable(&after[1..end], facts);
                rest = &after[end + 1..];
            }
            (_, _) if after.starts_with("header{") && after.contains('}') => {
                let end = after.find('}').unwrap_or(0);
                let name = after["header{".len()..end].to_ascii_lowercase();
                let found = facts.headers.iter().find(|(known, _)| *known == name);
                out += found.map_or("", |(_, value)| value);
                rest = &after[end + 1..];
            }
            (sign, _) => {
                out += sign;
                rest = after;
            }
        }
    }
    out + rest
}

fn variable(name: &str, facts: &Facts) -> String {
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    let speed = |bytes: u64| {
        let time = facts.total.as_secs_f64().max(1e-6);
        ((bytes as f64 / time) as u64).to_string()
    };
    match name {
        "http_code" | "response_code" => format!("{:03}", facts.status),
        "num_redirects" => facts.redirects.to_string(),
        "url" | "url_effective" => facts.url.clone(),
        "redirect_url" => facts.redirect_url.clone(),
        "method" => facts.method.clone(),
        "scheme" => facts.scheme.clone(),
        "content_type" => facts.content_type.clone(),
        "filename_effective" => facts.file.clone(),
        "remote_ip" => facts.remote_ip.clone(),
        "remote_port" => facts.remote_port.to_string(),
        "http_version" => facts.http_version.clone(),
        "size_download" => facts.downloaded.to_string(),
        "size_upload" => facts.uploaded.to_string(),
        "size_header" => facts.header_bytes.to_string(),
        "speed_download" => speed(facts.downloaded),
        "speed_upload" => speed(facts.uploaded),
        "time_namelookup" => seconds(facts.name_lookup),
        "time_connect" => seconds(facts.connect),
        "time_appconnect" => seconds(facts.tls),
        "time_starttransfer" => seconds(facts.first_byte),
        "time_total" => seconds(facts.total),
        "exitcode" => facts.exit_code.to_string(),
        "errormsg" => facts.error.clone(),
        other => {
            eprintln!("curl: unknown --write-out variable: '{other}'");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_filled_in() {
        let facts = Facts {
            status: 200,
            downloaded: 5,
            total: Duration::from_millis(1500),
            headers: vec![("etag".into(), "x".into())],
            ..Facts::default()
        };
        assert_eq!(fill("%{http_code}\\n", &facts), "200\n");
        assert_eq!(
            fill("%{size_download} %{time_total}%%", &facts),
            "5 1.500000%"
        );
        assert_eq!(fill("%header{ETag}", &facts), "x");
        assert_eq!(fill("%{oops % \\q ä\\", &facts), "%{oops % \\q ä\\");
        assert_eq!(fill("", &Facts::default()), "");
    }
}
