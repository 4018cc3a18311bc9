//! The only currency inside the core: a chat or a preference, with the place it came from.
//!
//! ```
//! use zephyr_data_core::record::{Chat, Message, Record, Role};
//!
//! let chat = Chat { messages: vec![Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Hello!")] };
//! assert_eq!(Record::Chat(chat).prompt(), "Hi");
//! ```

use std::sync::Arc;

/// Who speaks. Other roles (`tool`, `function`, …) carry columns that this crate does not read, so they are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that stand before the conversation.
    System,
    /// The person.
    User,
    /// The model: the only role that is trained on.
    Assistant,
}

impl Role {
    /// All roles, in the order in which messages name them to the user.
    pub const ALL: [Role; 3] = [Role::System, Role::User, Role::Assistant];

    /// The role's name in data files and templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    /// The role of that name, if there is one.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as it stands in the file.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The turns in their order.
    pub messages: Vec<Message>,
}

/// Two answers to one prompt, the first preferred to the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// The conversation up to the answers.
    pub prompt: Vec<Message>,
    /// The preferred continuation, usually one assistant turn.
    pub chosen: Vec<Message>,
    /// The other continuation.
    pub rejected: Vec<Message>,
    /// The judge's score of `chosen`, if the file has one.
    pub score_chosen: Option<f64>,
    /// The judge's score of `rejected`, if the file has one.
    pub score_rejected: Option<f64>,
}

/// A row's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// For supervised fine-tuning.
    Chat(Chat),
    /// For preference optimization.
    Preference(Preference),
}

/// Which kind of record a data set holds; one data set never holds two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Chat`]s.
    Chat,
    /// [`Preference`]s.
    Preference,
}

impl Kind {
    /// The kind's name in options and manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Preference => "preference",
        }
    }
}

/// A record and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The input's `id`, else `file:line`.
    pub id: String,
    /// The input file, as the user named it.
    pub file: Arc<str>,
    /// Line (JSON lines), or row or element (other formats), from 1.
    pub line: u64,
    /// What was read.
    pub record: Record,
    /// The values of the columns that are carried along; of none where none are.
    pub carried: Vec<Option<String>>,
}

impl Record {
    /// Which kind this is.
    pub fn kind(&self) -> Kind {
        match self {
            Record::Chat(_) => Kind::Chat,
            Record::Preference(_) => Kind::Preference,
        }
    }

    /// All turns in a fixed order: a chat's, or a preference's prompt, then `chosen`, then `rejected`.
    /// Turn numbers in `changes/` count along this order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        let (first, second, third): (&[Message], &[Message], &[Message]) = match self {
            Record::Chat(chat) => (&chat.messages, &[], &[]),
            Record::Preference(pair) => (&pair.prompt, &pair.chosen, &pair.rejected),
        };
        first.iter().chain(second).chain(third)
    }

    /// As [`Record::messages`], to repair them in place.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        let (first, second, third): (&mut [Message], &mut [Message], &mut [Message]) = match self {
            Record::Chat(chat) => (&mut chat.messages, &mut [], &mut []),
            Record::Preference(pair) => (&mut pair.prompt, &mut pair.chosen, &mut pair.rejected),
        };
        first.iter_mut().chain(second).chain(third)
    }

    /// The first user turn, which decides on which side of the train/test split a row falls; empty if nobody asks.
    pub fn prompt(&self) -> &str {
        self.messages().find(|message| message.role == Role::User).map_or("", |message| &message.content)
    }
}
