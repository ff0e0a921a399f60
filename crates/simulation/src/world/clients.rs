//! The world's part of the clients: when they ask, and what is entered in the history.

use wattle_core::ids::{ClientId, GridTime};

use super::{CALM, CLIENTS_STOP, Event, HOT_KEYS, KEYS, World};
use crate::client::{Client, Next};
use crate::clock::{MILLISECOND, SECOND, Time, WALL};
use crate::letter::{Action, Address, Key, Letter};

impl World {
    pub(super) fn add_clients(&mut self) {
        for place in 0..self.scenario.clients {
            let id = ClientId { issued: GridTime(WALL), random: self.random.draw() };
            let random = self.random.fork();
            self.clients.push(Client::new(id, self.machines.len(), random));
            self.after(SECOND, Event::Client { client: place, attempt: (0, 0) });
        }
    }

    /// A client's timer.
    pub(super) fn look_after(&mut self, place: usize, attempt: (u64, u32)) {
        let machines = self.machines.len();
        let client = &mut self.clients[place];
        client.learn_machines(machines);
        if client.attempts() != attempt {
            return;
        }
        let next = if client.is_idle() { self.next_operation(place) } else { client.look(self.now) };
        self.go_on(place, next);
    }

    fn next_operation(&mut self, place: usize) -> Next {
        let (key, action) = if self.now.0 < CLIENTS_STOP {
            let hot = self.random.one_in(2);
            let key = if hot { self.random.below(HOT_KEYS.into()) } else { self.random.below(KEYS.into()) };
            let key = Key(u16::try_from(key).expect("there are few keys"));
            (key, self.clients[place].draw(key))
        } else {
            let Some(key) = self.unread.pop() else { return Next::Nothing };
            (key, Action::Get)
        };
        let partition = self.partition_of(key);
        let now = self.now;
        let client = &mut self.clients[place];
        // What was asked before does not count for how calm it is by now.
        if now.0 < CALM {
            (client.answered, client.longest) = (0, 0);
        }
        client.begin(now, (key, partition), action)
    }

    fn go_on(&mut self, place: usize, next: Next) {
        let wait = match next {
            Next::Ask(machine, request, wait) => {
                let letter = Letter::Request(request);
                self.send(Address::Client(place), Address::Machine(machine), letter);
                wait
            }
            Next::Look(wait) => wait,
            Next::Ended(key, told, wait) => {
                self.trace.note(self.now, &(place, told.map(|told| told.operation.asked)), || {
                    format!("client {place}: {key:?}: {told:?}")
                });
                self.trace.count(match told {
                    Some(told) if told.operation.answer.is_some() => "answered",
                    Some(_) => "in doubt",
                    None => "not applied",
                });
                if let Some(told) = told {
                    let judgement = self.judge.ended(self.partition_of(key), key, told);
                    self.judged(judgement);
                }
                wait
            }
            Next::Nothing => return,
        };
        let attempt = self.clients[place].attempts();
        self.after(wait, Event::Client { client: place, attempt });
    }

    pub(super) fn tell_client(&mut self, place: usize, letter: &Letter) {
        let Letter::Reply(reply) = letter else { return };
        let next = self.clients[place].receive(self.now, *reply);
        self.go_on(place, next);
    }

    /// Every key is read once more.
    pub(super) fn read_all(&mut self) {
        self.unread = (0..KEYS).map(Key).collect();
        for place in 0..self.clients.len() {
            if self.clients[place].is_idle() {
                let attempt = self.clients[place].attempts();
                self.at(Time(CLIENTS_STOP + MILLISECOND), Event::Client { client: place, attempt });
            }
        }
    }

    /// Whatever was not answered by now is in doubt.
    pub(super) fn give_up(&mut self) {
        for place in 0..self.clients.len() {
            let next = self.clients[place].give_up();
            self.go_on(place, next);
        }
    }
}
