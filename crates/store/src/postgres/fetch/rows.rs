//! Reads the rows that the server's functions return. `functions.sql` says what each kind of row holds.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

pub const TURN_ENDED: i16 = 0;
pub const ACTIVITY_ENDED: i16 = 1;
pub const LEASED_TURN: i16 = 2;
pub const MESSAGE: i16 = 3;
pub const KEY: i16 = 4;
pub const LEASED_ACTIVITY: i16 = 5;
pub const DUE: i16 = 6;
pub const START_FOUND: i16 = 7;
pub const TRANSACTION: i16 = 8;
pub const SCHEDULED_ACTIVITY: i16 = 9;
pub const TIME: i16 = 10;
pub const HELD_BACK: i16 = 11;
pub const HELD_LIST: i16 = 12;

pub struct AnswerRow<'a>(pub &'a PgRow);

type Read<T> = Result<T, sqlx::Error>;

impl AnswerRow<'_> {
    pub fn kind(&self) -> Read<i16> {
        self.0.try_get(0)
    }

    pub fn token(&self) -> Read<String> {
        self.0.try_get(1)
    }

    pub fn instance(&self) -> Read<String> {
        self.0.try_get(2)
    }

    pub fn id(&self) -> Read<i64> {
        self.0.try_get(3)
    }

    pub fn attempt(&self) -> Read<i32> {
        self.0.try_get(4)
    }

    pub fn starts_later(&self) -> Read<bool> {
        Ok(self.0.try_get::<Option<i32>, _>(4)?.is_some())
    }

    pub fn item(&self) -> Read<Option<String>> {
        self.0.try_get(5)
    }

    pub fn name(&self) -> Read<Option<String>> {
        self.0.try_get(6)
    }

    pub fn version(&self) -> Read<Option<String>> {
        self.0.try_get(7)
    }

    pub fn execution(&self) -> Read<Option<i64>> {
        self.0.try_get(8)
    }

    pub fn last_event(&self) -> Read<Option<i64>> {
        self.0.try_get(9)
    }

    pub fn stamp(&self) -> Read<Option<i64>> {
        self.0.try_get(10)
    }
}
