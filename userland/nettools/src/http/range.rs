//! Parts of a resource (RFC 9110, 14): what an answer to a `Range` holds.

/// A `Content-Range`.
#[derive(Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First and last byte; `None` where the range asked for is not there.
    pub part: Option<(u64, u64)>,
    /// Length of the whole, if known.
    pub total: Option<u64>,
}

/// Reads the value of a Content-Range header; `None` if it makes no sense.
pub fn parse(value: &str) -> Option<ContentRange> {
    let (part, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let part = match part {
        "*" => None,
        part => {
            let (first, last) = part.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let sane = first <= last && total.is_none_or(|total| last < total);
            sane.then_some(())?;
            Some((first, last))
        }
    };
    Some(ContentRange { part, total })
}

/// What to do with the answer to a request for everything from `offset` on.
#[derive(Debug, PartialEq, Eq)]
pub enum Resume {
    /// It begins where the file ends; the length of the whole, if known.
    Append(Option<u64>),
    /// It is the whole.
    Restart,
    /// There is nothing after `offset`.
    Complete,
    /// The file does not fit the resource.
    Mismatch,
}

/// Judges status and Content-Range of an answer to `Range: bytes=OFFSET-`.
pub fn resume(offset: u64, status: u16, content_range: Option<&str>) -> Resume {
    let range = content_range.and_then(parse);
    match (status, range) {
        (
            206,
            Some(ContentRange {
                part: Some((first, last)),
                total,
            }),
        ) => {
            // A server may send less than asked for; then the whole is not here.
            let to_end = total.is_none_or(|total| last + 1 == total);
            match first == offset && to_end {
                true => Resume::Append(total),
                false => Resume::Mismatch,
            }
        }
        (
            416,
            Some(ContentRange {
                part: None,
                total: Some(total),
            }),
        ) if total == offset => Resume::Complete,
        (206 | 416, _) => Resume::Mismatch,
        _ => Resume::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let range = parse("bytes 5-9/10").expect("sane");
        assert_eq!((range.part, range.total), (Some((5, 9)), Some(10)));
        assert_eq!(parse("bytes */10").and_then(|r| r.total), Some(10));
        assert_eq!(parse("bytes 5-9/*").map(|r| r.total), Some(None));
        for bad in [
            "",
            "bytes",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "lines 1-2/3",
            "bytes a-b/c",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_fits_is_appended() {
        assert_eq!(
            resume(5, 206, Some("bytes 5-9/10")),
            Resume::Append(Some(10))
        );
        assert_eq!(resume(5, 206, Some("bytes 4-9/10")), Resume::Mismatch);
        assert_eq!(resume(5, 206, Some("bytes 5-8/10")), Resume::Mismatch);
        assert_eq!(resume(5, 206, None), Resume::Mismatch);
        assert_eq!(resume(10, 416, Some("bytes */10")), Resume::Complete);
        assert_eq!(resume(11, 416, Some("bytes */10")), Resume::Mismatch);
        assert_eq!(resume(10, 416, None), Resume::Mismatch);
        assert_eq!(resume(5, 200, None), Resume::Restart);
    }
}
