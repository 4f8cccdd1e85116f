use super::*;

#[test]
fn etag_matches_its_generation_in_every_form() {
    for fields in [
        &["\"7\""][..],
        &["W/\"7\""],
        &["\"6\", \"7\""],
        &["\"6\"", "\"7\""],
        &["*"],
    ] {
        assert!(has_etag(fields, 7), "{fields:?}");
    }
    for fields in [
        &[][..],
        &["\"8\""],
        &["7"],
        &["\"\""],
        &["\"7"],
        &["\"7x\""],
        &["\"07\""],
        &["\"+7\""],
        &["\"6\", *"],
    ] {
        assert!(!has_etag(fields, 7), "{fields:?}");
    }
}
