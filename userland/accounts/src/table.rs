//! Lines of fields with colons between them: passwd(5), shadow(5), group(5).
//!
//! Pure text. What is not understood (comments, short lines) is kept as it is.

/// One of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    lines: Vec<String>,
}

impl Table {
    pub fn parse(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Every entry's fields.
    pub fn rows(&self) -> impl Iterator<Item = Vec<&str>> {
        self.lines
            .iter()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split(':').collect())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.lines
            .iter()
            .position(|line| line.split_once(':').is_some_and(|(own, _)| own == name))
    }

    /// The fields of `name`, the name first.
    pub fn find(&self, name: &str) -> Option<Vec<String>> {
        let line = &self.lines[self.place(name)?];
        Some(line.split(':').map(str::to_owned).collect())
    }

    /// Puts field `index` of `name` to `value`; false when there is no `name`.
    pub fn set(&mut self, name: &str, index: usize, value: &str) -> bool {
        let (Some(place), Some(mut fields)) = (self.place(name), self.find(name)) else {
            return false;
        };
        if fields.len() <= index {
            fields.resize(index + 1, String::new());
        }
        fields[index] = value.to_owned();
        self.lines[place] = fields.join(":");
        true
    }

    pub fn push(&mut self, fields: &[&str]) {
        self.lines.push(fields.join(":"));
    }

    /// False when there is no `name`.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.place(name) {
            Some(place) => {
                self.lines.remove(place);
                true
            }
            None => false,
        }
    }

    /// The smallest number in `range` that is in no entry's field `index`.
    pub fn free_id(&self, index: usize, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let taken: std::collections::BTreeSet<u32> = self
            .rows()
            .filter_map(|row| row.get(index)?.parse().ok())
            .collect();
        range.into_iter().find(|id| !taken.contains(id))
    }
}

/// Members in group(5)'s last field.
pub fn members(field: &str) -> Vec<&str> {
    field.split(',').filter(|name| !name.is_empty()).collect()
}

/// Whether `name` can name a user or group (useradd(8)): it becomes part of
/// lines, paths and command lines.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (1..=32).contains(&name.len())
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
}

/// Whether `value` can be a field.
pub fn is_field(value: &str) -> bool {
    !value.contains([':', '\n', '\r', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "root:x:0:0:root:/root:/bin/sh\n# a comment\nbob:x:1000:1000::/home/bob:/bin/sh\nshort\n";

    #[test]
    fn what_is_not_touched_stays() {
        let mut table = Table::parse(TEXT);
        assert_eq!(table.text(), TEXT);
        assert!(table.set("bob", 6, "/bin/false"));
        assert!(!table.set("eve", 6, "/bin/false"));
        assert_eq!(table.text(), TEXT.replace("bob:/bin/sh", "bob:/bin/false"));
        table.push(&["eve", "x", "1001"]);
        assert!(table.set("eve", 4, "Eve"));
        assert!(table.text().ends_with("eve:x:1001::Eve\n"));
        assert!(table.remove("eve") && table.remove("bob") && !table.remove("bob"));
        assert!(table.find("bo").is_none() && table.find("root").is_some());
    }

    #[test]
    fn the_first_free_number() {
        let table = Table::parse(TEXT);
        assert_eq!(table.free_id(2, 1000..=1002), Some(1001));
        assert_eq!(table.free_id(2, 0..=0), None);
    }

    #[test]
    fn names_and_fields() {
        for good in ["bob", "_apt", "a-b.c_9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "-x",
            "Bob",
            "9a",
            "a:b",
            "a\nb",
            "../x",
            &"x".repeat(33),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_field("Bob B. Bobson, room 9") && !is_field("a:b") && !is_field("a\nb"));
    }
}
