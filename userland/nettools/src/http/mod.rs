//! One HTTP exchange: what `wget` and `curl` share. The protocol is ureq's, TLS
//! is rustls'; here are what a user can choose, what went over the wire
//! ([`wire`]) and which step failed ([`error`]). Redirections are the
//! caller's to follow.

pub mod date;
mod error;
pub mod proxy;
pub mod range;
pub mod url;
mod wire;

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use ureq::config::IpFamily;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, SendBody};

use crate::sys::Family;
use error::explain;
pub use error::{HttpError, Step};
use url::Url;
pub use wire::Trace;

/// Where the image has the certificates of the authorities it trusts.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What stays the same from one request to the next.
#[derive(Debug, Default)]
pub struct Settings {
    pub family: Family,
    /// Do not check certificates.
    pub insecure: bool,
    /// Instead of the system's certificates.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Option<Duration>,
    /// Longest silence.
    pub idle_timeout: Option<Duration>,
    /// When everything must be over.
    pub deadline: Option<Instant>,
    /// Do not look for a proxy.
    pub no_proxy: bool,
    /// Instead of what the environment says.
    pub proxy: Option<String>,
}

/// What is sent after the headers.
pub enum Body {
    None,
    Bytes(Vec<u8>),
    /// With its length if that is known.
    Reader(Box<dyn Read>, Option<u64>),
}

/// What is asked.
pub struct Request<'a> {
    pub method: &'a str,
    pub url: &'a Url,
    /// In order. A name without a value takes out what is sent by itself.
    pub headers: Vec<(String, Option<String>)>,
    pub body: Body,
}

/// What came back; the body is still to be read.
pub struct Response {
    pub status: u16,
    /// Status line and headers as they came, with the empty line.
    pub head: Vec<u8>,
    headers: Vec<(String, String)>,
    /// Bytes of the body, if its end is not told by other means.
    pub length: Option<u64>,
    reader: Box<dyn Read>,
    received: u64,
    pub trace: Trace,
}

/// Makes requests with the same settings.
pub struct Client {
    pub settings: Settings,
    roots: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Client {
    pub fn new(settings: Settings) -> Client {
        Client {
            settings,
            roots: OnceLock::new(),
        }
    }

    /// The trusted certificates, read when first needed.
    fn roots(&self) -> Result<RootCerts, HttpError> {
        if let Some(roots) = self.roots.get() {
            return Ok(RootCerts::Specific(roots.clone()));
        }
        let path = match &self.settings.ca_file {
            Some(path) => path.clone(),
            None => std::env::var_os("SSL_CERT_FILE")
                .filter(|path| !path.is_empty())
                .map_or_else(|| PathBuf::from(CA_BUNDLE), PathBuf::from),
        };
        let failed = |why: String| {
            let path = path.display();
            HttpError::new(
                Step::CaFile,
                format!("error setting certificate file: {path}: {why}"),
            )
        };
        let pem = std::fs::read(&path).map_err(|e| failed(crate::cli::Message::message(&e)))?;
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| failed(e.to_string()))? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(failed("no certificate in it".into()));
        }
        let roots = self.roots.get_or_init(|| Arc::new(certificates));
        Ok(RootCerts::Specific(roots.clone()))
    }

    /// The proxy for `url`.
    fn proxy(&self, url: &Url) -> Result<Option<Url>, HttpError> {
        if self.settings.no_proxy {
            return Ok(None);
        }
        let named = match &self.settings.proxy {
            Some(proxy) => Some(proxy.clone()).filter(|p| !p.is_empty()),
            None => proxy::for_url(url, |name| std::env::var(name).ok()),
        };
        let Some(named) = named else {
            return Ok(None);
        };
        let failed = |why: &str| HttpError::new(Step::Proxy, format!("proxy '{named}': {why}"));
        let proxy = Url::parse(&named).map_err(|why| failed(&why))?;
        match proxy.scheme.as_str() {
            "http" => Ok(Some(proxy)),
            _ => Err(failed("unsupported proxy scheme")),
        }
    }

    /// Sends `request` and reads the head of the answer.
    pub fn send(&self, request: Request<'_>) -> Result<Response, HttpError> {
        let url = request.url;
        let secure = match url.scheme.as_str() {
            "http" => false,
            "https" => true,
            other => {
                let text = format!("Protocol \"{other}\" not supported");
                return Err(HttpError::new(Step::Url, text));
            }
        };
        let proxy = self.proxy(url)?;
        let trace = wire::Shared::default();
        let mut headers = request.headers;
        let rewrite = wire::Rewrite {
            method: request.method.to_owned(),
            // A proxy is asked for the whole URL, unless it only passes bytes on.
            target: match (&proxy, secure) {
                (Some(_), false) => url.to_string(),
                _ => url.path.clone(),
            },
            dropped: headers
                .iter()
                .filter(|(_, value)| value.is_none())
                .map(|(name, _)| name.to_ascii_lowercase())
                .collect(),
        };
        if let (
            Some(Url {
                user: Some(user),
                password,
                ..
            }),
            false,
        ) = (&proxy, secure)
        {
            let value = basic(user, password.as_deref().unwrap_or(""));
            headers.push(("Proxy-Authorization".into(), Some(value)));
        }
        let agent = self.agent(url, secure, proxy.as_ref(), rewrite, &trace)?;
        let sent = match request.body {
            Body::None => {
                // Methods that ureq knows to have a body must have one.
                let method = match request.method {
                    "HEAD" => "HEAD",
                    _ => "GET",
                };
                self.run(&agent, method, url, &headers, SendBody::none())
            }
            Body::Bytes(bytes) => {
                headers.push(("Content-Length".into(), Some(bytes.len().to_string())));
                let body = SendBody::from_owned_reader(io::Cursor::new(bytes));
                self.run(&agent, "POST", url, &headers, body)
            }
            Body::Reader(reader, length) => {
                if let Some(length) = length {
                    headers.push(("Content-Length".into(), Some(length.to_string())));
                }
                let body = SendBody::from_owned_reader(reader);
                self.run(&agent, "POST", url, &headers, body)
            }
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Err(explain(&error, url, proxy.as_ref(), &trace.get())),
        };
        let status = answer.status().as_u16();
        let headers: Vec<(String, String)> = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, value)| value.trim().parse().ok());
        let bodiless = request.method == "HEAD" || matches!(status, 204 | 304);
        let trace = trace.get();
        Ok(Response {
            status,
            head: trace.received.clone(),
            headers,
            length: length.filter(|_| !chunked && !bodiless),
            reader: match bodiless {
                true => Box::new(io::empty()),
                false => Box::new(answer.into_body().into_reader()),
            },
            received: 0,
            trace,
        })
    }

    fn agent(
        &self,
        url: &Url,
        secure: bool,
        proxy: Option<&Url>,
        rewrite: wire::Rewrite,
        trace: &wire::Shared,
    ) -> Result<Agent, HttpError> {
        let settings = &self.settings;
        let left = match settings.deadline {
            None => None,
            Some(end) => match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(HttpError::new(Step::Timeout, "Operation timed out")),
                left => Some(left),
            },
        };
        let mut tls = TlsConfig::builder();
        if secure {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            tls = tls
                .unversioned_rustls_crypto_provider(provider)
                .disable_verification(settings.insecure);
            if !settings.insecure {
                tls = tls.root_certs(self.roots()?);
            }
        }
        let tunnel = match proxy.filter(|_| secure) {
            Some(proxy) => Some(tunnel(proxy)?),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .proxy(tunnel)
            .user_agent("")
            .accept("")
            .accept_encoding("")
            .max_response_header_size(256 * 1024)
            .ip_family(match settings.family {
                Family::Any => IpFamily::Any,
                Family::V4 => IpFamily::Ipv4Only,
                Family::V6 => IpFamily::Ipv6Only,
            })
            .timeout_global(left)
            .timeout_resolve(settings.connect_timeout)
            .timeout_connect(settings.connect_timeout)
            .timeout_per_read(settings.idle_timeout)
            .timeout_per_write(settings.idle_timeout)
            .tls_config(tls.build())
            .build();
        let via = proxy
            .filter(|_| !secure)
            .map(|p| (p.host.as_str(), p.port()));
        Ok(wire::agent(config, url, via, rewrite, trace.clone()))
    }

    fn run(
        &self,
        agent: &Agent,
        method: &str,
        url: &Url,
        headers: &[(String, Option<String>)],
        body: SendBody<'static>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url.to_string());
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        agent.run(request.body(body)?)
    }
}

/// The same proxy as ureq names it, for passing TLS through.
fn tunnel(proxy: &Url) -> Result<ureq::Proxy, HttpError> {
    let mut builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http)
        .host(&proxy.host)
        .port(proxy.port());
    if let Some(user) = &proxy.user {
        builder = builder.username(user);
    }
    if let Some(password) = &proxy.password {
        builder = builder.password(password);
    }
    let failed = |error: ureq::Error| HttpError::new(Step::Proxy, error);
    builder.build().map_err(failed)
}

/// The value of an Authorization header (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    let both = format!("{user}:{password}");
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(both))
}

impl Response {
    /// The last value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Names in lower case, and values.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Where a redirection leads, if this is one.
    pub fn redirection(&self) -> Option<&str> {
        match self.status {
            301 | 302 | 303 | 307 | 308 => self.header("location"),
            _ => None,
        }
    }

    /// More of the body; 0 at its end, which is an error when bytes are missing.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        let missing = |received: u64, length: Option<u64>| {
            let text = match length {
                Some(length) => format!(
                    "transfer closed with {} bytes remaining to read",
                    length.saturating_sub(received)
                ),
                None => "transfer closed with outstanding read data remaining".to_owned(),
            };
            HttpError::new(Step::Partial, text)
        };
        match self.reader.read(buffer) {
            Ok(0) if self.length.is_some_and(|length| self.received < length) => {
                Err(missing(self.received, self.length))
            }
            Ok(count) => {
                self.received += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(missing(self.received, self.length))
            }
            Err(error) => match ureq::Error::from(error) {
                ureq::Error::Timeout(_) => Err(HttpError::new(
                    Step::Timeout,
                    format!("Operation timed out with {} bytes received", self.received),
                )),
                ureq::Error::Protocol(error) => Err(HttpError::new(Step::Receive, error)),
                ureq::Error::Io(error) => {
                    let text = format!("Recv failure: {}", crate::cli::Message::message(&error));
                    Err(HttpError::new(Step::Receive, text))
                }
                error => Err(HttpError::new(Step::Receive, error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_encoded() {
        // RFC 7617's example.
        assert_eq!(
            basic("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
