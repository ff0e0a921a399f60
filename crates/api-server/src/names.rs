//! What is wrong with names, keys and labels, worded as apimachinery's `pkg/util/validation`.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

pub(crate) fn subdomain(text: &str) -> Vec<String> {
    faults(text, MAX_SUBDOMAIN, text.split('.').all(is_label), SUBDOMAIN)
}

pub(crate) fn label(text: &str) -> Vec<String> {
    faults(text, MAX_LABEL, is_label(text), LABEL)
}

/// A name of a service is also a name in older DNS.
pub(crate) fn service(text: &str) -> Vec<String> {
    let is_service = is_label(text) && !text.starts_with(|letter: char| letter.is_ascii_digit());
    faults(text, MAX_LABEL, is_service, SERVICE)
}

/// A segment of a path, as names of roles are.
pub(crate) fn segment(text: &str) -> Vec<String> {
    if [".", ".."].contains(&text) {
        return vec![format!("may not be '{text}'")];
    }
    let found = ["/", "%"].into_iter().filter(|part| text.contains(part));
    found.map(|part| format!("may not contain '{part}'")).collect()
}

pub(crate) fn label_value(text: &str) -> Vec<String> {
    faults(text, MAX_LABEL, text.is_empty() || is_word(text), LABEL_VALUE)
}

/// A key of labels, annotations, finalizers: a word, and maybe a domain before it.
pub(crate) fn qualified(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                found.push("prefix part must be non-empty".to_owned());
            } else {
                found.extend(subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL {
        found.push(format!("name part {}", too_long(MAX_LABEL)));
    }
    if !is_word(name) {
        found.push(format!("name part {QUALIFIED}"));
    }
    found
}

/// A key of a ConfigMap or a Secret: it becomes a file.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let is_key = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let mut found = faults(text, MAX_SUBDOMAIN, !text.is_empty() && text.chars().all(is_key), CONFIG_KEY);
    if [".", ".."].contains(&text) {
        found.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        found.push("must not start with '..'".to_owned());
    }
    found
}

fn faults(text: &str, at_most: usize, has_form: bool, form: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > at_most {
        found.push(too_long(at_most));
    }
    if !has_form {
        found.push(form.to_owned());
    }
    found
}

fn too_long(at_most: usize) -> String {
    format!("must be no more than {at_most} characters")
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        && is_end(text.chars().next())
        && is_end(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_neither_too_long_nor_odd() {
        assert_eq!(subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
        assert_eq!(subdomain("a.b-c"), [""; 0]);
        assert_eq!(subdomain("A"), [SUBDOMAIN]);
        assert_eq!(label(&"A".repeat(64)), ["must be no more than 63 characters", LABEL]);
        assert_eq!(service("1a"), [SERVICE]);
        assert_eq!(segment("system:a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn keys_have_at_most_one_prefix() {
        assert_eq!(qualified("example.com/a_b"), [""; 0]);
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified("-x"), [format!("name part {QUALIFIED}")]);
        assert_eq!(
            qualified("a/"),
            ["name part must be non-empty".to_owned(), format!("name part {QUALIFIED}")]
        );
        assert!(qualified("a/b/c")[0].starts_with("a qualified name must consist of"));
    }

    #[test]
    fn keys_of_config_maps_are_names_of_files() {
        assert_eq!(config_key("A_b.c-d"), [""; 0]);
        assert_eq!(config_key("a b"), [CONFIG_KEY]);
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
    }
}
