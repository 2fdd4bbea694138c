//! Which step of an exchange failed, and how that is told: from ureq's and
//! rustls' errors and from how far the connection had come.

use std::fmt;
use std::io;

use super::url::Url;
use super::wire::Trace;

/// Which step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Url,
    Proxy,
    Resolve,
    Connect,
    CaFile,
    Handshake,
    Certificate,
    Timeout,
    /// The server said nothing at all.
    Empty,
    Send,
    Receive,
    /// The body ended early.
    Partial,
    Protocol,
}

#[derive(Debug)]
pub struct HttpError {
    pub step: Step,
    pub text: String,
}

impl HttpError {
    pub fn new(step: Step, text: impl fmt::Display) -> HttpError {
        HttpError {
            step,
            text: text.to_string(),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which step an error of ureq's ended, in words.
pub fn explain(error: &ureq::Error, url: &Url, proxy: Option<&Url>, trace: &Trace) -> HttpError {
    let peer = proxy.unwrap_or(url);
    let (host, port) = (&peer.host, peer.port());
    let io_text = |error: &io::Error| crate::cli::Message::message(error);
    match error {
        ureq::Error::Timeout(what) => {
            let text = match trace.connected {
                None => format!("Connection timed out: {host} port {port}"),
                Some(_) => format!("Operation timed out ({what})"),
            };
            return HttpError::new(Step::Timeout, text);
        }
        ureq::Error::HostNotFound => {
            let step = if proxy.is_some() {
                Step::Proxy
            } else {
                Step::Resolve
            };
            return HttpError::new(step, format!("Could not resolve host: {host}"));
        }
        ureq::Error::ConnectProxyFailed(why) => {
            return HttpError::new(Step::Receive, format!("CONNECT tunnel failed: {why}"));
        }
        ureq::Error::Http(why) => return HttpError::new(Step::Url, why),
        ureq::Error::BadUri(why) => return HttpError::new(Step::Url, why),
        _ => {}
    }
    let inner = match error {
        ureq::Error::Io(error) => error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>()),
        ureq::Error::Rustls(error) => Some(error),
        _ => None,
    };
    if trace.connected.is_none() {
        let why = match error {
            ureq::Error::Io(error) => io_text(error),
            other => other.to_string(),
        };
        let text = format!("Failed to connect to {host} port {port}: {why}");
        return HttpError::new(Step::Connect, text);
    }
    if let Some(rustls::Error::InvalidCertificate(why)) = inner {
        let text = format!("SSL certificate problem: {}", certificate_text(why, url));
        return HttpError::new(Step::Certificate, text);
    }
    let why = match (error, inner) {
        (_, Some(error)) => error.to_string(),
        (ureq::Error::Io(error), None) => io_text(error),
        (ureq::Error::Tls(text), None) => (*text).to_owned(),
        (other, None) => other.to_string(),
    };
    if trace.ready.is_none() {
        return HttpError::new(Step::Handshake, format!("TLS connect error: {why}"));
    }
    if inner.is_some() {
        return HttpError::new(Step::Receive, format!("TLS error: {why}"));
    }
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            match trace.received.is_empty() {
                true => HttpError::new(Step::Empty, "Empty reply from server"),
                false => HttpError::new(Step::Receive, "Recv failure: headers cut short"),
            }
        }
        ureq::Error::Io(_) if trace.sent.is_empty() => {
            HttpError::new(Step::Send, format!("Send failure: {why}"))
        }
        ureq::Error::Io(_) => HttpError::new(Step::Receive, format!("Recv failure: {why}")),
        ureq::Error::LargeResponseHeader(..) | ureq::Error::Protocol(_) => {
            HttpError::new(Step::Protocol, format!("Weird server reply: {why}"))
        }
        _ => HttpError::new(Step::Protocol, why),
    }
}

fn certificate_text(error: &rustls::CertificateError, url: &Url) -> String {
    use rustls::CertificateError as E;
    match error {
        E::UnknownIssuer => "unable to get local issuer certificate".into(),
        E::Expired | E::ExpiredContext { .. } => "certificate has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => "certificate is not yet valid".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            format!(
                "no alternative certificate subject name matches target host name '{}'",
                url.host
            )
        }
        E::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => {
            "self-signed certificate".into()
        }
        other => other.to_string(),
    }
}
