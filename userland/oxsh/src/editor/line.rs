//! The line being edited: text, cursor, and the editing operations of emacs
//! mode. Pure: it knows nothing of terminals.

/// Text and a cursor, which is always at a character boundary.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    /// Byte offset in `text`.
    cursor: usize,
}

/// A letter case for [`Line::change_case`].
#[derive(Clone, Copy)]
pub enum Case {
    Upper,
    Lower,
    Capital,
}

impl Line {
    /// A line with the cursor at its end.
    pub fn new(text: String) -> Self {
        let cursor = text.len();
        Self { text, cursor }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The part before the cursor.
    pub fn head(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// The part after the cursor.
    pub fn tail(&self) -> &str {
        &self.text[self.cursor..]
    }

    pub fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    /// Replaces the bytes `start..cursor` with `text`. Offsets that are not
    /// character boundaries are refused (no change).
    pub fn replace_before_cursor(&mut self, start: usize, text: &str) {
        if start <= self.cursor && self.text.is_char_boundary(start) {
            self.text.replace_range(start..self.cursor, text);
            self.cursor = start + text.len();
        }
    }

    pub fn left(&mut self) {
        self.cursor = self.previous_boundary();
    }

    pub fn right(&mut self) {
        self.cursor = self.next_boundary();
    }

    pub fn home(&mut self) {
        self.cursor = 0;
    }

    pub fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    /// Removes and returns the text between the cursor and `end` (either side).
    fn cut(&mut self, end: usize) -> String {
        let range = self.cursor.min(end)..self.cursor.max(end);
        self.cursor = range.start;
        self.text.drain(range).collect()
    }

    pub fn backspace(&mut self) -> String {
        self.cut(self.previous_boundary())
    }

    pub fn delete(&mut self) -> String {
        self.cut(self.next_boundary())
    }

    pub fn kill_to_end(&mut self) -> String {
        self.cut(self.text.len())
    }

    pub fn kill_to_start(&mut self) -> String {
        self.cut(0)
    }

    pub fn kill_word(&mut self) -> String {
        self.cut(self.word_end())
    }

    pub fn kill_word_back(&mut self) -> String {
        self.cut(self.word_start())
    }

    /// Kills back to the last blank, as Ctrl-W does.
    pub fn kill_blank_word_back(&mut self) -> String {
        let trimmed = self.head().trim_end().len();
        let start = self.text[..trimmed]
            .char_indices()
            .rev()
            .find(|(_, c)| c.is_whitespace())
            .map_or(0, |(at, c)| at + c.len_utf8());
        self.cut(start)
    }

    /// Exchanges the character before the cursor with the one at it.
    pub fn transpose(&mut self) {
        if self.cursor == self.text.len() {
            self.left();
        }
        let Some(at) = self.text[self.cursor..].chars().next() else {
            return;
        };
        if self.cursor == 0 {
            return;
        }
        let before = self.previous_boundary();
        self.text.remove(self.cursor);
        self.text.insert(before, at);
        self.right();
    }

    /// Changes the case of the word at or after the cursor.
    pub fn change_case(&mut self, case: Case) {
        let end = self.word_end();
        let mut first = true;
        let changed: String = self.text[self.cursor..end]
            .chars()
            .map(|c| {
                let upper = match case {
                    Case::Upper => true,
                    Case::Lower => false,
                    Case::Capital => first,
                };
                first &= !c.is_alphanumeric();
                if upper {
                    c.to_uppercase().to_string()
                } else {
                    c.to_lowercase().to_string()
                }
            })
            .collect();
        self.text.replace_range(self.cursor..end, &changed);
        self.cursor += changed.len();
    }

    fn previous_boundary(&self) -> usize {
        self.head()
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at)
    }

    fn next_boundary(&self) -> usize {
        let step = self.tail().chars().next().map_or(0, char::len_utf8);
        self.cursor + step
    }

    fn word_start(&self) -> usize {
        let head = self.head();
        let word = head.trim_end_matches(|c: char| !c.is_alphanumeric());
        word.trim_end_matches(char::is_alphanumeric).len()
    }

    fn word_end(&self) -> usize {
        let tail = self.tail();
        let word = tail.trim_start_matches(|c: char| !c.is_alphanumeric());
        self.text.len() - word.trim_start_matches(char::is_alphanumeric).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_alphanumeric_runs() {
        let mut line = Line::new("echo foo-bar".into());
        line.word_left();
        assert_eq!(line.tail(), "bar");
        line.word_left();
        assert_eq!(line.tail(), "foo-bar");
        assert_eq!(line.kill_word(), "foo");
        assert_eq!(line.text(), "echo -bar");
        line.end();
        assert_eq!(line.kill_word_back(), "bar");
    }

    #[test]
    fn ctrl_w_kills_to_the_blank() {
        let mut line = Line::new("ls /usr/bin ".into());
        assert_eq!(line.kill_blank_word_back(), "/usr/bin ");
        assert_eq!(line.text(), "ls ");
    }

    #[test]
    fn multibyte_characters_move_as_one() {
        let mut line = Line::new("aé日".into());
        line.left();
        assert_eq!(line.tail(), "日");
        line.left();
        assert_eq!(line.backspace(), "a");
        assert_eq!(line.delete(), "é");
        assert_eq!(line.text(), "日");
    }

    #[test]
    fn edges_are_safe() {
        let mut line = Line::default();
        line.left();
        line.right();
        line.transpose();
        assert_eq!(line.backspace(), "");
        assert_eq!(line.delete(), "");
        assert_eq!(line.kill_blank_word_back(), "");
        line.change_case(Case::Upper);
        assert_eq!(line, Line::default());
    }

    #[test]
    fn transpose_and_case() {
        let mut line = Line::new("ab".into());
        line.transpose();
        assert_eq!((line.text(), line.cursor()), ("ba", 2));
        line.home();
        line.change_case(Case::Capital);
        assert_eq!(line.text(), "Ba");
    }
}
