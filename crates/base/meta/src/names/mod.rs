//! Name formats, with upstream's messages: DNS labels, label keys and values, port names, keys of ConfigMaps.
//!
//! Every check returns the list of what is wrong, empty when nothing is; callers put the texts into
//! [`field::Error::invalid`](crate::field::Error::invalid).

mod dns;
mod labels;
mod misc;

pub use dns::{
    dns1035_label, dns1123_label, dns1123_subdomain, dns1123_subdomain_with_underscore, is_dns1123_label,
    is_dns1123_subdomain, wildcard_dns1123_subdomain,
};
pub use labels::{label_key, label_value, qualified_name};
pub use misc::{
    c_identifier, config_map_key, env_var_name, http_header_name, in_range, path_segment, percent, port_name,
    port_number, relaxed_env_var_name, user_or_group_id,
};

pub(crate) fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// What a pattern demands, with examples and the pattern itself.
pub(crate) fn pattern(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// `first`, then any of `middle`, ending in `first` again: the form of every label pattern.
pub(crate) fn bracketed(text: &str, end: fn(u8) -> bool, middle: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => end(*only),
        [first, between @ .., last] => end(*first) && end(*last) && between.iter().all(|byte| middle(*byte)),
    }
}

#[cfg(test)]
mod tests;
