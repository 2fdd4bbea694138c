//! The bundle of certificate authorities that the image trusts: Mozilla's list,
//! as it is in the crate `webpki-root-certs`, in the form that programs read.

use crate::error::{Error, Result};
use base64::Engine as _;
use std::path::Path;

/// Characters in a line of PEM (RFC 7468).
const LINE: usize = 64;

/// Writes the bundle to `output`. The same version of the crate gives the same
/// bytes.
pub fn write(output: &Path) -> Result<()> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let bundle: String = roots.iter().map(|der| pem(der.as_ref())).collect();
    std::fs::write(output, bundle).map_err(|e| Error::file(output, e))
}

fn pem(der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out += line;
        out.push('\n');
        rest = after;
    }
    out + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_characters() {
        let text = pem(&[0; 50]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[1].len(), lines[2].len()), (64, 4));
        assert!(text.ends_with("-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn there_are_authorities() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 50);
    }
}
