//! Names of managers: what a client may call itself, and what it is called when it does not.

/// Longest name, in characters.
const MOST: usize = 128;

/// The first part of the user agent; nothing unprintable. A client without one is `unknown`.
pub fn from_user_agent(agent: &str) -> String {
    let program = agent.split('/').next().unwrap_or_default();
    let name: String = program.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// Why `fieldManager` may not be that; the sentences that a 422 holds.
pub fn problems(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > MOST {
        problems.push(format!("may not be more than {MOST} bytes"));
    }
    if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_control()) {
        problems.push(format!("should only contain printable characters ({c:?} at {at})"));
    }
    problems
}
