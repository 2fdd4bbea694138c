//! How far the longest match reaches that begins where the engine found one: POSIX wants the longest alternative, the
//! engine takes the first.

use std::cell::RefCell;

use super::Options;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

pub(super) fn longer(
    longest: &Option<(DFA, RefCell<Cache>)>,
    text: &[u8],
    start: usize,
    end: usize,
) -> usize {
    if let Some((dfa, cache)) = longest {
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        if let Ok(Some(found)) = dfa.try_search_fwd(&mut cache.borrow_mut(), &input) {
            return end.max(found.offset());
        }
    }
    end
}

fn syntax_config(options: Options) -> syntax::Config {
    syntax::Config::new()
        .unicode(options.utf8)
        .utf8(false)
        .case_insensitive(options.ignore_case)
        .multi_line(options.lines)
        .dot_matches_new_line(true)
}

pub(super) fn all_matches(pattern: &str, options: Options) -> Option<(DFA, RefCell<Cache>)> {
    let dfa = DFA::builder()
        .configure(
            DFA::config()
                .match_kind(MatchKind::All)
                .unicode_word_boundary(true),
        )
        .syntax(syntax_config(options))
        .thompson(thompson::Config::new().utf8(false))
        .build(pattern)
        .ok()?;
    let cache = dfa.create_cache();
    Some((dfa, RefCell::new(cache)))
}
