//! The JSON Schema of the config file. It is generated from the types that the config is parsed into when
//! it is tested, not in the daemon, whose idle memory is mostly its code.

/// The JSON Schema of the config file, for editors.
pub const SCHEMA: &str = include_str!("../../docs/config.schema.json");

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::super::parse::RawConfig;
    use super::*;

    #[test]
    fn included_schema_is_that_of_the_parsed_types() {
        let schema = schemars::schema_for!(RawConfig);
        let generated = format!("{:#}\n", schema.as_value());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
            fs::write(file, &generated).unwrap();
            return;
        }
        let differing = SCHEMA
            .lines()
            .zip(generated.lines())
            .find(|(included, generated)| included != generated);
        assert!(
            SCHEMA == generated,
            "run: UPDATE_SCHEMA=1 cargo test --lib config::schema::; first difference: {differing:?}"
        );
    }
}
