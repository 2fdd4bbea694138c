//! What curl sends: data, a file or standard input, counted and shown.

use std::fs::File;
use std::io::{self, Read};

use super::Trouble;
use super::options::Upload;
use crate::cli::Message as _;
use crate::http::Body;
use crate::progress::{Progress, Style};

/// Counts what a body has given.
#[derive(Clone, Default)]
pub struct Counter(std::rc::Rc<std::cell::Cell<u64>>);

impl Counter {
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A body that counts, and shows how far it is.
struct Counted<R> {
    inner: R,
    counter: Counter,
    progress: Progress,
    ended: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.counter.0.set(self.counter.get() + count as u64);
        match count {
            0 if self.ended => {}
            0 => {
                self.ended = true;
                self.progress.finish();
            }
            count => self.progress.add(count as u64),
        }
        Ok(count)
    }
}

/// The body to send, and what counts it.
pub fn body(upload: Option<&Upload>, style: Style) -> Result<(Body, Option<Counter>), Trouble> {
    let counter = Counter::default();
    let counted = |reader: Box<dyn Read>, length: Option<u64>| {
        let reader = Counted {
            inner: reader,
            counter: counter.clone(),
            progress: Progress::new(style, 0, length, true),
            ended: false,
        };
        Body::Reader(Box::new(reader), length)
    };
    match upload {
        None | Some(Upload::Nothing) => Ok((Body::None, None)),
        Some(Upload::Bytes(data)) => {
            counter.0.set(data.len() as u64);
            Ok((Body::Bytes(data.clone()), Some(counter)))
        }
        Some(Upload::File(name)) if name == "-" => {
            let body = counted(Box::new(io::stdin()), None);
            Ok((body, Some(counter)))
        }
        Some(Upload::File(name)) => {
            let failed = |error: io::Error| {
                Trouble::new(26, format!("Can't open '{name}': {}", error.message()))
            };
            let file = File::open(name).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            let length = meta.is_file().then_some(meta.len());
            // A file that grows must not overrun what was announced.
            let reader: Box<dyn Read> = match length {
                Some(length) => Box::new(file.take(length)),
                None => Box::new(file),
            };
            let body = counted(reader, length);
            Ok((body, Some(counter)))
        }
    }
}
