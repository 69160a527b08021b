//! What the operator and agents say to each other, and what an agent keeps of it.

use towpath_control::assembly::{Assembly, FromOperator};
use towpath_control::malformed::Malformed;
use towpath_control::message::{read_from_agent, write_from_agent};
use towpath_control::parts;
use towpath_control::update::State;

/// The first byte chooses who speaks, the rest is a message.
pub fn message(data: &[u8]) {
    let Some((who, message)) = data.split_first() else { return };
    if who & 1 == 0 { from_agent(message) } else { from_operator(message) }
}

fn from_agent(message: &[u8]) {
    match read_from_agent(message) {
        Ok(said) => assert_eq!(read_from_agent(&write_from_agent(&said)), Ok(said)),
        Err(error) => refusal(&error),
    }
}

/// What is understood says the same when it is written again, and can be applied or does not fit.
fn from_operator(message: &[u8]) {
    match Assembly::default().take(message) {
        Ok(Some(FromOperator::Update(nonce, update))) => {
            let mut assembly = Assembly::default();
            let again = parts::write(nonce, &update);
            let read: Vec<_> = again.iter().filter_map(|part| assembly.take(part).expect("what was written")).collect();
            assert_eq!(read, [FromOperator::Update(nonce, update.clone())]);
            let mut state = State::default();
            if state.apply((*update).clone()).is_ok() {
                assert!(state.apply(*update).is_ok_and(|effect| effect.is_empty()));
            }
        }
        Ok(_) => {}
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &Malformed) {
    assert!(error.to_string().contains(&error.field) && !error.field.is_empty(), "{error}");
}
