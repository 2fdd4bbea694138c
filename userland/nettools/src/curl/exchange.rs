//! The requests of one transfer: redirections, headers, and what is shown of
//! them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::body::body;
use super::options::Upload;
use super::sink::Sink;
use super::writeout::Facts;
use super::{Curl, Trouble};
use crate::cli::Message as _;
use crate::http::url::Url;
use crate::http::{self, Request, Response};

impl Curl {
    /// Sends the request, to where redirections lead if they are to be followed.
    /// Heads of all answers are shown where they are wanted.
    pub(super) fn follow(
        &self,
        mut url: Url,
        offset: u64,
        sink: &mut Sink,
        facts: &mut Facts,
        start: Instant,
    ) -> Result<Response, Trouble> {
        let options = &self.options;
        let origin = url.clone();
        let has_data = match &options.upload {
            Upload::Nothing => false,
            Upload::Bytes(_) => !options.data_in_url,
            Upload::File(_) => true,
        };
        let mut upload = has_data.then_some(&options.upload);
        let mut method = match (&options.method, &upload) {
            (Some(method), _) => method.clone(),
            (None, _) if options.head => "HEAD".into(),
            (None, Some(Upload::File(_))) => "PUT".into(),
            (None, Some(_)) => "POST".into(),
            (None, None) => "GET".into(),
        };
        loop {
            let headers = self.headers(&url, &origin, upload, offset);
            facts.url = url.to_string();
            facts.scheme.clone_from(&url.scheme);
            facts.method.clone_from(&method);
            let (body, counter) = body(upload, self.meter_style(sink, true))?;
            let response = self.client.send(Request {
                method: &method,
                url: &url,
                headers,
                body,
            });
            if let Some(counter) = counter {
                facts.uploaded = counter.get();
            }
            let response = response.inspect_err(|error| {
                if options.verbose {
                    eprintln!("* {error}");
                }
            })?;
            self.note(&response, &url, facts, start);
            self.show_heads(&response, sink, options.head)?;
            let to = response.redirection();
            facts.redirect_url = match to.map(|to| url.join(to)) {
                Some(Ok(next)) => next.to_string(),
                _ => String::new(),
            };
            let Some(to) = to.filter(|_| options.follow) else {
                return Ok(response);
            };
            if options
                .max_redirects
                .is_some_and(|max| facts.redirects >= max)
            {
                let max = facts.redirects;
                return Err(Trouble::new(
                    47,
                    format!("Maximum ({max}) redirects followed"),
                ));
            }
            facts.redirects += 1;
            let next = url.join(to);
            let next = next.map_err(|why| Trouble::new(3, format!("URL rejected: {why}")))?;
            if !matches!(next.scheme.as_str(), "http" | "https") {
                let text = format!("Protocol \"{}\" not supported in redirect", next.scheme);
                return Err(Trouble::new(1, text));
            }
            if matches!(response.status, 301..=303) && upload.is_some() {
                upload = None;
                if options.method.is_none() {
                    method = "GET".into();
                }
            }
            url = next;
        }
    }

    /// The headers of one request.
    fn headers(
        &self,
        url: &Url,
        origin: &Url,
        upload: Option<&Upload>,
        offset: u64,
    ) -> Vec<(String, Option<String>)> {
        let options = &self.options;
        let trusted = options.trust_location || url.same_server(origin);
        let mut headers: Vec<(String, Option<String>)> = Vec::new();
        let given = |name: &str| {
            options
                .headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut own = |name: &str, value: String| {
            if !given(name) {
                headers.push((name.into(), Some(value)));
            }
        };
        let user = match (&url.user, &options.user) {
            (Some(user), _) => Some((user.clone(), url.password.clone().unwrap_or_default())),
            (None, Some(both)) if trusted => {
                let (user, word) = both.split_once(':').unwrap_or((both, ""));
                Some((user.to_owned(), word.to_owned()))
            }
            _ => None,
        };
        if let Some((user, word)) = user {
            own("Authorization", http::basic(&user, &word));
        }
        if let Some(agent) = &options.agent {
            own("User-Agent", agent.clone());
        }
        own("Accept", "*/*".into());
        if let Some(Upload::Bytes(_)) = upload {
            own("Content-Type", "application/x-www-form-urlencoded".into());
        }
        if let Some(range) = &options.range {
            own("Range", format!("bytes={range}"));
        } else if offset > 0 && upload.is_none() {
            own("Range", format!("bytes={offset}-"));
        }
        for (name, value) in &options.headers {
            let secret = ["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str());
            if trusted || !secret {
                headers.push((name.clone(), value.clone()));
            }
        }
        headers
    }

    fn note(&self, response: &Response, url: &Url, facts: &mut Facts, start: Instant) {
        let trace = &response.trace;
        let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.duration_since(start));
        facts.status = response.status;
        facts.name_lookup = since(trace.resolved);
        facts.connect = since(trace.connected);
        facts.tls = since(trace.ready.filter(|_| trace.secure));
        facts.first_byte = since(trace.answered);
        facts.header_bytes += response.head.len() as u64;
        facts.content_type = response.header("content-type").unwrap_or("").to_owned();
        facts.headers = response.headers().to_vec();
        if let Some(address) = trace.addresses.first() {
            facts.remote_ip = address.ip().to_string();
            facts.remote_port = address.port();
        }
        let head = String::from_utf8_lossy(&response.head);
        let version = head
            .split(' ')
            .next()
            .and_then(|word| word.strip_prefix("HTTP/"));
        facts.http_version = version.unwrap_or("").to_owned();
        if !self.options.verbose {
            return;
        }
        if let Some(address) = trace.addresses.first() {
            eprintln!("*   Trying {address}...");
            eprintln!(
                "* Connected to {} ({}) port {}",
                url.host,
                address.ip(),
                address.port()
            );
        }
        if trace.secure {
            let how = if self.client.settings.insecure {
                "not checked"
            } else {
                "verified"
            };
            eprintln!("* TLS connection, server certificate {how}");
        }
        for (sign, head) in [('>', &trace.sent), ('<', &response.head)] {
            for line in String::from_utf8_lossy(head).lines() {
                eprintln!("{sign} {line}");
            }
        }
    }

    fn show_heads(&self, response: &Response, sink: &mut Sink, head: bool) -> Result<(), Trouble> {
        if let Some(name) = &self.options.dump_headers {
            let written = match name.as_str() {
                "-" => io::stdout().write_all(&response.head),
                name => OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(name)
                    .and_then(|mut file| file.write_all(&response.head)),
            };
            written.map_err(|e| Trouble::new(23, format!("{name}: {}", e.message())))?;
        }
        match head || self.options.include {
            true => sink.write(&response.head, false),
            false => Ok(()),
        }
    }
}
