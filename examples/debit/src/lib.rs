//! Takes money from an account, and refuses to overdraw it: the caller sees why, and nothing has changed.
//!
//! The value is `{"owner": "Alice", "balance": 100}`. `debit` takes an amount and answers what is left; it fails
//! with code 1 when there is no account, and with code 2 when the balance is too small. `balance` only reads.

use std::fmt;

use serde::{Deserialize, Serialize};
use wattle_guest::{Entry, Failure, entry_processor};

/// A field that is not known here would be lost when the account is written again, so there may be none.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    owner: String,
    balance: u64,
}

/// Why a debit is refused.
#[derive(Debug, PartialEq)]
enum DebitError {
    NoAccount,
    Overdrawn { balance: u64, amount: u64 },
}

impl fmt::Display for DebitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccount => f.write_str("there is no such account"),
            Self::Overdrawn { balance, amount } => {
                write!(f, "the balance of {balance} does not cover {amount}")
            }
        }
    }
}

/// The numbers are part of the contract with callers.
impl From<DebitError> for Failure {
    fn from(error: DebitError) -> Self {
        let code = match error {
            DebitError::NoAccount => 1,
            DebitError::Overdrawn { .. } => 2,
        };
        Self::new(code, error.to_string())
    }
}

#[entry_processor(deterministic)]
fn debit(account: &mut Entry<Account>, amount: u64) -> Result<u64, DebitError> {
    let account = account.get_mut().ok_or(DebitError::NoAccount)?;
    let balance = account.balance;
    account.balance = balance.checked_sub(amount).ok_or(DebitError::Overdrawn { balance, amount })?;
    Ok(account.balance)
}

#[entry_processor(deterministic)]
fn balance(account: &Entry<Account>) -> Option<u64> {
    account.get().map(|account| account.balance)
}

wattle_guest::export!(debit, balance);

#[cfg(test)]
mod tests {
    use super::*;
    use wattle_guest::format::Json;
    use wattle_guest::testing::TestMap;

    fn alice_with(balance: u64) -> TestMap<Json> {
        let mut accounts = TestMap::new(Json);
        accounts.put("alice", &Account { owner: "Alice".to_owned(), balance });
        accounts
    }

    #[test]
    fn debit_answers_what_is_left() {
        let mut accounts = alice_with(100);
        assert_eq!(accounts.invoke::<debit, u64>("alice", &30), Ok(70));
        assert_eq!(accounts.invoke::<balance, Option<u64>>("alice", &()), Ok(Some(70)));
        assert_eq!(accounts.get_bytes("alice"), Some(&br#"{"owner":"Alice","balance":70}"#[..]));
    }

    #[test]
    fn account_can_be_emptied_but_not_overdrawn() {
        let mut accounts = alice_with(100);
        assert_eq!(accounts.invoke::<debit, u64>("alice", &100), Ok(0));
        let failure = accounts.invoke::<debit, u64>("alice", &1).unwrap_err();
        assert_eq!(failure, Failure::new(2, "the balance of 0 does not cover 1"));
        assert_eq!(accounts.version("alice"), 2);
    }

    #[test]
    fn missing_account_is_not_made() {
        let mut accounts = alice_with(100);
        assert_eq!(accounts.invoke::<debit, u64>("bob", &1), Err(DebitError::NoAccount.into()));
        assert_eq!(accounts.invoke::<balance, Option<u64>>("bob", &()), Ok(None));
        assert_eq!(accounts.len(), 1);
    }

    #[test]
    fn account_with_more_in_it_is_not_touched() {
        let mut accounts = TestMap::new(Json);
        accounts.put_bytes("carol", *br#"{"owner":"Carol","balance":5,"limit":9}"#);
        let failure = accounts.invoke::<debit, u64>("carol", &1).unwrap_err();
        assert_eq!(failure.code(), Failure::UNREADABLE_VALUE);
        assert!(failure.message().contains("unknown field `limit`"), "{failure}");
    }
}
