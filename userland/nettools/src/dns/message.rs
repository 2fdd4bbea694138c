//! DNS messages (RFC 1035, 4): queries made, answers read.

use super::name;
use super::record::{self, Record};

const HEADER_BYTES: usize = 12;

/// Bits of the second header word.
pub const QR: u16 = 0x8000;
pub const TC: u16 = 0x0200;
pub const RD: u16 = 0x0100;
const OPCODE: u16 = 0x7800;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub kind: u16,
    pub class: u16,
}

/// The bytes of a query.
pub fn query(id: u16, question: &Question, recursive: bool) -> Result<Vec<u8>, String> {
    let flags = if recursive { RD } else { 0 };
    let mut bytes = Vec::new();
    for word in [id, flags, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(name::to_wire(&question.name)?);
    bytes.extend(question.kind.to_be_bytes());
    bytes.extend(question.class.to_be_bytes());
    Ok(bytes)
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: u16,
    pub flags: u16,
    pub questions: Vec<Question>,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Message {
    /// Takes a message apart; `None` if it is malformed anywhere.
    pub fn read(packet: &[u8]) -> Option<Message> {
        let mut reader = Reader { packet, next: 0 };
        let mut header = [0; 6];
        for word in &mut header {
            *word = reader.short()?;
        }
        debug_assert_eq!(reader.next, HEADER_BYTES);
        let [id, flags, counts @ ..] = header;
        Some(Message {
            id,
            flags,
            questions: (0..counts[0])
                .map(|_| reader.question())
                .collect::<Option<_>>()?,
            answers: reader.records(counts[1])?,
            authority: reader.records(counts[2])?,
            additional: reader.records(counts[3])?,
        })
    }

    /// Whether this answers the query with `id` for `question`.
    pub fn answers(&self, id: u16, question: &Question) -> bool {
        let same = |asked: &Question| {
            let dotted = question.name.trim_end_matches('.');
            asked.kind == question.kind
                && asked.class == question.class
                && asked
                    .name
                    .trim_end_matches('.')
                    .eq_ignore_ascii_case(dotted)
        };
        // Servers that understood nothing may leave the question out.
        let asked = match self.questions.as_slice() {
            [] => self.code() != 0,
            [asked] => same(asked),
            _ => false,
        };
        self.id == id && self.flags & (QR | OPCODE) == QR && asked
    }

    /// The response code; 0 is success.
    pub fn code(&self) -> u16 {
        self.flags & 15
    }

    pub fn truncated(&self) -> bool {
        self.flags & TC != 0
    }
}

/// The name of a response code.
pub fn code_name(code: u16) -> String {
    const NAMES: &[&str] = &[
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
        "NXRRSET", "NOTAUTH", "NOTZONE",
    ];
    match NAMES.get(usize::from(code)) {
        Some(name) => (*name).to_owned(),
        None => format!("RESERVED{code}"),
    }
}

struct Reader<'a> {
    packet: &'a [u8],
    next: usize,
}

impl Reader<'_> {
    fn short(&mut self) -> Option<u16> {
        let bytes = self.packet.get(self.next..self.next + 2)?;
        self.next += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn name(&mut self) -> Option<String> {
        let (name, after) = name::from_wire(self.packet, self.next)?;
        self.next = after;
        Some(name)
    }

    fn question(&mut self) -> Option<Question> {
        Some(Question {
            name: self.name()?,
            kind: self.short()?,
            class: self.short()?,
        })
    }

    fn records(&mut self, count: u16) -> Option<Vec<Record>> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Option<Record> {
        let Question { name, kind, class } = self.question()?;
        let ttl = u32::from(self.short()?) << 16 | u32::from(self.short()?);
        let length = usize::from(self.short()?);
        let start = self.next;
        self.next = start + length;
        Some(Record {
            name,
            kind,
            class,
            ttl,
            text: record::text(self.packet, kind, start, start + length)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            name: "www.example.com".into(),
            kind: record::A,
            class: 1,
        }
    }

    /// An answer to [`question`] with one record, its name compressed.
    fn answer() -> Vec<u8> {
        let mut packet = query(77, &question(), true).expect("legal");
        packet[2] |= 0x80;
        packet[3] |= 0x80;
        packet[7] = 1;
        packet.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\0\x02\x02");
        packet
    }

    #[test]
    fn an_answer_is_read() {
        let message = Message::read(&answer()).expect("well-formed");
        assert!(message.answers(77, &question()));
        assert!(!message.answers(78, &question()));
        let other = Question {
            name: "www.example.org".into(),
            ..question()
        };
        assert!(!message.answers(77, &other));
        let record = &message.answers[0];
        assert_eq!(record.name, "www.example.com.");
        assert_eq!((record.ttl, record.text.as_str()), (300, "10.0.2.2"));
    }

    #[test]
    fn a_query_answers_nothing() {
        let bytes = query(77, &question(), true).expect("legal");
        let message = Message::read(&bytes).expect("well-formed");
        assert!(!message.answers(77, &question()));
    }

    #[test]
    fn cut_messages_are_refused() {
        let whole = answer();
        for cut in 0..whole.len() {
            assert!(Message::read(&whole[..cut]).is_none(), "{cut}");
        }
        let mut lies = whole;
        lies[6] = 0xff;
        assert!(Message::read(&lies).is_none());
    }
}
