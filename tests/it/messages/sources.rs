//! Finds messages in Rust sources. Sources are parsed, not run: those for other systems are covered, too.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Rust has more syntax than messages are in"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprLit, ImplItem, Item, ItemMod, Lit, LitByteStr, LitStr, Macro, Meta, Stmt,
    Token,
};

/// The macros that log, which are the levels.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Macros whose literals are formats: one word beside a placeholder is a message there.
const FORMATS: [&str; 9] = [
    "eprint",
    "eprintln",
    "event",
    "format",
    "format_args",
    "print",
    "println",
    "write",
    "writeln",
];

/// Derives whose doc comments users see: as help, and in the config's schema.
const SHOWN_DOCS: [&str; 5] = ["Parser", "Args", "Subcommand", "ValueEnum", "JsonSchema"];

/// Attributes whose literals no user sees.
const INTERNAL_ATTRIBUTES: [&str; 8] = [
    "allow",
    "cfg",
    "cfg_attr",
    "deprecated",
    "doc",
    "expect",
    "must_use",
    "path",
];

/// What one file contains.
#[derive(Default)]
pub(crate) struct Messages {
    /// In source order.
    pub(crate) messages: Vec<String>,
    /// The modules of their own files that only tests compile: paths without `.rs`.
    pub(crate) test_modules: Vec<PathBuf>,
}

/// Returns the messages in a file outside of tests.
pub(crate) fn messages_of(path: &Path) -> Messages {
    messages_in(path, &fs::read_to_string(path).unwrap())
}

fn messages_in(path: &Path, text: &str) -> Messages {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut finder = Finder {
        path,
        found: Messages::default(),
        docs_are_shown: false,
    };
    finder.visit_file(&file);
    finder.found
}

struct Finder<'a> {
    path: &'a Path,
    found: Messages,
    /// Whether the visited type's doc comments are messages.
    docs_are_shown: bool,
}

impl Finder<'_> {
    fn push(&mut self, text: &str) {
        let is_plain = text.trim() == text && !text.contains(char::is_control);
        let quoted = if is_plain {
            text.to_owned()
        } else {
            format!("{text:?}")
                .replace("\\n", "\\n\n  ")
                .replace("\\n\n  \"", "\\n\"")
        };
        self.found.messages.push(quoted);
    }

    fn literal(&mut self, text: &str, is_format: bool) {
        if is_message(text, is_format) {
            self.push(text);
        }
    }

    /// Adds a literal of one word that is the result of an expression; those of several words are added
    /// wherever they are.
    fn result(&mut self, result: &Expr) {
        if let Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) = result
        {
            let text = text.value();
            if !is_message(&text, false) && is_message(&text, true) {
                self.push(&text);
            }
        }
    }

    /// Adds a literal that is one word in lower case, where other literals of one word are names: of options, of
    /// variables of the environment, of files.
    fn plain_word(&mut self, value: &Expr) {
        if let Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) = value
            && text.value().chars().all(|c| c.is_ascii_lowercase())
        {
            self.result(value);
        }
    }

    /// Walks the tokens of a macro call or an attribute.
    fn tokens(&mut self, tokens: TokenStream, is_format: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match (token, tokens.get(at), tokens.get(at + 1)) {
                (TokenTree::Ident(name), Some(bang), Some(TokenTree::Group(group)))
                    if is_punct(bang, '!') =>
                {
                    self.call(name, group.stream());
                    at += 2;
                }
                (hash, Some(TokenTree::Group(group)), _)
                    if is_punct(hash, '#') && group.delimiter() == Delimiter::Bracket =>
                {
                    at += 1;
                }
                (TokenTree::Literal(literal), ..) => match Lit::new(literal.clone()) {
                    Lit::Str(text) => self.literal(&text.value(), is_format),
                    Lit::ByteStr(bytes) => self.visit_lit_byte_str(&bytes),
                    _ => {}
                },
                (TokenTree::Group(group), ..) => self.tokens(group.stream(), is_format),
                _ => {}
            }
        }
    }

    fn call(&mut self, name: &Ident, arguments: TokenStream) {
        let name = name.to_string();
        if LEVELS.contains(&name.as_str()) {
            self.log_call(&name, arguments);
        } else {
            self.tokens(arguments, FORMATS.contains(&name.as_str()));
        }
    }

    /// Adds a log line: its level, its message and the names of its fields.
    fn log_call(&mut self, level: &str, arguments: TokenStream) {
        let mut line = level.to_uppercase();
        let mut fields = String::new();
        let mut values = Vec::new();
        let mut has_message = false;
        for argument in split_at_commas(arguments) {
            match argument.first() {
                Some(TokenTree::Literal(literal)) if !has_message => {
                    if let Lit::Str(text) = Lit::new(literal.clone()) {
                        line = format!("{line} {}", text.value().replace('\n', "\\n"));
                        has_message = true;
                    }
                }
                _ => {
                    // Arguments of the message's placeholders have no names of their own.
                    if !has_message {
                        fields = format!("{fields} {}=", field_name(&argument));
                    }
                    values.push(argument);
                }
            }
        }
        self.found.messages.push(line + &fields);
        for value in values {
            self.tokens(value.into_iter().collect(), true);
        }
    }

    fn docs(&mut self, attributes: &[Attribute]) {
        let mut paragraph = String::new();
        for attribute in attributes {
            let Meta::NameValue(doc) = &attribute.meta else {
                continue;
            };
            if !(self.docs_are_shown && doc.path.is_ident("doc")) {
                continue;
            }
            let Expr::Lit(value) = &doc.value else {
                continue;
            };
            let Lit::Str(line) = &value.lit else {
                continue;
            };
            match line.value().trim() {
                "" => self.push_paragraph(&mut paragraph),
                line if paragraph.is_empty() => paragraph = line.to_owned(),
                line => paragraph = format!("{paragraph} {line}"),
            }
        }
        self.push_paragraph(&mut paragraph);
    }

    fn push_paragraph(&mut self, paragraph: &mut String) {
        if !paragraph.is_empty() {
            self.push(&std::mem::take(paragraph));
        }
    }

    /// Returns the path of a module's file, without `.rs`.
    fn module_path(&self, module: &ItemMod) -> PathBuf {
        let explicit = module.attrs.iter().find_map(|attribute| {
            let Meta::NameValue(path) = &attribute.meta else {
                return None;
            };
            let Expr::Lit(value) = &path.value else {
                return None;
            };
            match &value.lit {
                Lit::Str(text) if path.path.is_ident("path") => Some(text.value()),
                _ => None,
            }
        });
        let folder = self.path.parent().unwrap();
        if let Some(explicit) = explicit {
            return folder.join(explicit).with_extension("");
        }
        let stem = self.path.file_stem().unwrap();
        if ["lib", "main", "mod"].iter().any(|root| stem == *root) {
            folder.join(module.ident.to_string())
        } else {
            folder.join(stem).join(module.ident.to_string())
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = attributes(item);
        if is_for_tests(attributes) {
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                let path = self.module_path(module);
                self.found.test_modules.push(path);
            }
            return;
        }
        let outer = self.docs_are_shown;
        self.docs_are_shown = attributes.iter().any(shows_docs);
        self.docs(attributes);
        visit::visit_item(self, item);
        self.docs_are_shown = outer;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => &local.attrs[..],
            Stmt::Macro(call) => &call.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            self.docs(&field.attrs);
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !is_for_tests(&variant.attrs) {
            self.docs(&variant.attrs);
            visit::visit_variant(self, variant);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let path = attribute.path();
        if INTERNAL_ATTRIBUTES.iter().any(|name| path.is_ident(name)) {
            return;
        }
        match &attribute.meta {
            Meta::List(list) => self.tokens(list.tokens.clone(), path.is_ident("error")),
            Meta::NameValue(_) | Meta::Path(_) => {}
        }
    }

    // A word that an expression results in is often part of a message.
    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.result(&arm.body);
        visit::visit_arm(self, arm);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        if let Some(Stmt::Expr(result, None)) = block.stmts.last() {
            self.result(result);
        }
        visit::visit_block(self, block);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        for argument in &call.args {
            self.plain_word(argument);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.plain_word(&closure.body);
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_return(&mut self, returned: &'ast syn::ExprReturn) {
        if let Some(value) = &returned.expr {
            self.plain_word(value);
        }
        visit::visit_expr_return(self, returned);
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        self.plain_word(&field.expr);
        visit::visit_field_value(self, field);
    }

    fn visit_item_const(&mut self, constant: &'ast syn::ItemConst) {
        self.plain_word(&constant.expr);
        visit::visit_item_const(self, constant);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.plain_word(&init.expr);
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if let Some(text) = call.args.first() {
            match &*call.method.to_string() {
                "pad" | "push_str" | "write_str" => self.result(text),
                "map_or" | "unwrap_or" => self.plain_word(text),
                _ => {}
            }
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = &call.path.segments.last().unwrap().ident;
        self.call(name, call.tokens.clone());
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.literal(&text.value(), false);
    }

    fn visit_lit_byte_str(&mut self, bytes: &'ast LitByteStr) {
        self.literal(&String::from_utf8_lossy(&bytes.value()), false);
    }
}

/// Whether a literal reads as text for a user: it has a word and a blank, or in a format a word beside its
/// placeholders.
fn is_message(text: &str, is_format: bool) -> bool {
    let mut outside = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let end = after.find(|c: char| c == '}' || c.is_whitespace());
        let is_placeholder = end.is_some_and(|end| after[end..].starts_with('}'));
        outside.push_str(before);
        rest = if is_placeholder {
            after.split_once('}').unwrap().1
        } else {
            after
        };
    }
    outside.push_str(rest);
    let mut runs = outside.split(|c: char| !c.is_alphabetic());
    let has_word = runs.any(|run| run.len() > 1);
    has_word && (text.contains(char::is_whitespace) || is_format)
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let parts = tokens.split(|token| is_punct(token, ','));
    let parts = parts.filter(|part| !part.is_empty());
    parts.map(<[TokenTree]>::to_vec).collect()
}

/// Returns the name of a log line's field, written as `name = value` or as a variable.
fn field_name(argument: &[TokenTree]) -> String {
    let name = argument.iter().take_while(|token| !is_punct(token, '='));
    let name = name.filter(|token| !is_punct(token, '%') && !is_punct(token, '?'));
    name.map(ToString::to_string).collect()
}

fn shows_docs(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    let mut names = list.tokens.clone().into_iter();
    list.path.is_ident("derive")
        && names.any(|token| SHOWN_DOCS.contains(&token.to_string().as_str()))
}

/// Whether attributes exclude an item from what is built for users.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_excluded = |attribute: &Attribute| {
        let condition = attribute.parse_args::<Meta>();
        attribute.path().is_ident("cfg") && condition.is_ok_and(|meta| holds(&meta) == Some(false))
    };
    attributes.iter().any(is_excluded) || attributes.iter().any(|a| a.path().is_ident("test"))
}

/// Whether a condition holds for what users get; `None` if that depends on the platform or on features.
fn holds(condition: &Meta) -> Option<bool> {
    let Meta::List(list) = condition else {
        let is_test = ["test", "fuzzing"]
            .iter()
            .any(|name| condition.path().is_ident(name));
        return is_test.then_some(false);
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let parts: Vec<_> = parts.ok()?.iter().map(holds).collect();
    let is_all = |value| parts.iter().all(|part| *part == Some(value));
    let is_any = |value| parts.contains(&Some(value));
    if list.path.is_ident("not") {
        return parts.first()?.map(|value| !value);
    }
    // What decides the whole if one part has it.
    let decisive = list.path.is_ident("any");
    if is_any(decisive) {
        Some(decisive)
    } else {
        is_all(!decisive).then_some(!decisive)
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn messages_are_found_outside_of_tests_in_source_order() {
    let source = r#"
        //! Not a message.
        #[cfg(all(unix, any(test, fuzzing)))]
        mod part;
        #[cfg(test)]
        #[path = "other_unix.rs"]
        mod tests;
        #[cfg(not(test))]
        const LONG: &str = "a message \
                            of one line";
        /// Not shown.
        #[derive(Debug, Error)]
        enum Error {
            #[error("{0}: gone")]
            #[allow(dead_code, reason = "no message of a user")]
            Gone(String),
        }
        /// The config.
        ///
        /// Of two
        /// paragraphs.
        #[derive(JsonSchema)]
        struct Config {
            /// A key.
            #[serde(rename = "key")]
            key: u8,
        }
        fn log(key: &str) -> &'static str {
            tokio::select! {
                _ = x => warn!(client, %scope, lifetime_s = a.b, what = "the token", kind = "late", "token {} late", f("an argument")),
            }
            tracing::error!("{message}");
            format!("key{key}x", "x{key}ok");
            text.push_str("; ");
            text.push_str("of");
            change("added", "--added", some.map_or("none", |some| "one"));
            #[cfg(test)]
            let not = "not this";
            if key == "key" { "on" } else { b"two\nlines" }
        }
        #[test]
        fn test() { "not this" }
    "#;
    let found = messages_in(Path::new("src/file.rs"), source);
    let expected = [
        "a message of one line",
        "{0}: gone",
        "The config.",
        "Of two paragraphs.",
        "A key.",
        "WARN token {} late client= scope= lifetime_s= what= kind=",
        "the token",
        "late",
        "an argument",
        "ERROR {message}",
        "key{key}x",
        "x{key}ok",
        "of",
        "added",
        "none",
        "one",
        "on",
        "\"two\\n\n  lines\"",
    ];
    assert_eq!(found.messages, expected);
    let modules = ["src/file/part", "src/other_unix"].map(PathBuf::from);
    assert_eq!(found.test_modules, modules);
}
