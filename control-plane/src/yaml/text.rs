//! Lines and blanks of a text, by byte offsets that are always at the border of a character.
//!
//! A line ends with `\n`; a `\r` before it belongs to the end.

/// Where the line begins that `at` is in.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the next line begins; the end of the text if this is the last.
pub(super) fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// Characters between the start of the line and `at`.
pub(super) fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// How far the line that `at` is in is indented, in spaces.
pub(super) fn indent(text: &str, at: usize) -> usize {
    text[line_start(text, at)..].bytes().take_while(|b| *b == b' ').count()
}

/// Whether only blanks stand before `at` in its line.
pub(super) fn is_first(text: &str, at: usize) -> bool {
    text[line_start(text, at)..at].bytes().all(|b| b == b' ')
}

/// The byte at `at`; 0 behind the end.
pub(super) fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

/// Past spaces and tabs.
pub(super) fn skip_blanks(text: &str, at: usize) -> usize {
    at + text[at..].bytes().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// Past everything that is no content: blanks, line ends, comments.
pub(super) fn skip_trivia(text: &str, mut at: usize) -> usize {
    loop {
        match byte(text, at) {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' if at == 0 || matches!(byte(text, at - 1), b' ' | b'\t' | b'\r' | b'\n') => {
                at += text[at..].find('\n').unwrap_or(text.len() - at);
            }
            _ => return at,
        }
    }
}

/// The start of the line after `at`, if only blanks and a comment stand between; `at` itself if it is the start of a line.
pub(super) fn past_line(text: &str, at: usize) -> Option<usize> {
    if at == 0 || byte(text, at - 1) == b'\n' {
        return Some(at);
    }
    let content = skip_blanks(text, at);
    let comment = byte(text, content) == b'#' && content > at;
    let end = byte(text, content) == b'\n' || text[content..].starts_with("\r\n") || content == text.len();
    (comment || end).then(|| next_line(text, content))
}

/// Whether a comment stands in what separates two nodes.
pub(super) fn has_comment(gap: &str) -> bool {
    gap.contains('#')
}
