//! The name of a responder in messages: Domo only if the response has Domo's form.

use hyper::header::{CONTENT_TYPE, SERVER};

use super::Answer;
use super::headers::{media_type, text_of};
use crate::config::{Naming, Setting};
use crate::connect::{Secrets, one_line};

/// The longest name of a server or media type in messages, in characters.
const MAX_NAME: usize = 60;

/// The server that responded, or a proxy on the way to it.
pub(super) struct Responder<'a> {
    answer: &'a Answer,
    secrets: Secrets<'a>,
    pub(super) server_name: &'a str,
    naming: Naming,
}

impl<'a> Responder<'a> {
    pub(super) fn new(
        answer: &'a Answer,
        secrets: Secrets<'a>,
        server_name: &'a str,
        naming: Naming,
    ) -> Self {
        Self {
            answer,
            secrets,
            server_name,
            naming,
        }
    }

    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    /// Returns the advice to check the endpoint's URL.
    pub(super) fn check_url(&self) -> String {
        format!("check {}", self.naming.name(Setting::TOKEN_URL))
    }

    /// Returns what is wrong with a web page in the place of JSON.
    pub(super) fn web_page(&self) -> String {
        let check = self.check_url();
        format!("it is a web page, possibly a login page; {check}")
    }

    /// Returns name and status of a response of Domo.
    pub(super) fn domo(&self) -> String {
        format!("Domo returned {}", self.answer.status.as_u16())
    }

    /// Returns name and status of a response that anything on the way may have sent.
    pub(super) fn anyone(&self) -> String {
        let content_type = text_of(&self.answer.headers, &CONTENT_TYPE);
        let kind = content_type
            .map(media_type)
            .filter(|kind| kind != "application/json");
        let server = text_of(&self.answer.headers, &SERVER);
        let server = server.map(|server| format!("server {}", self.name(server)));
        let details: Vec<String> = kind
            .map(|kind| self.name(&kind))
            .into_iter()
            .chain(server)
            .filter(|detail| !detail.trim().is_empty())
            .collect();
        let status = self.answer.status.as_u16();
        if details.is_empty() {
            return format!("{} returned {status}", self.server_name);
        }
        format!(
            "{} returned {status} ({})",
            self.server_name,
            details.join(", ")
        )
    }

    /// Returns a text of the response as messages show it.
    pub(super) fn clean(&self, text: &str) -> String {
        one_line(&self.secrets.removed_from(text))
    }

    /// Returns the same, shortened.
    pub(super) fn name(&self, text: &str) -> String {
        let clean = self.clean(text);
        if clean.chars().count() <= MAX_NAME {
            return clean;
        }
        clean.chars().take(MAX_NAME).chain(['…']).collect()
    }
}
