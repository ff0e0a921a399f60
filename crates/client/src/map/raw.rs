//! A map of bytes to bytes. Every method is one call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wattle_proto::v1;

use crate::call::Caller;
use crate::error::Error;
use crate::invoke::{Call, InvokeStream, Invoked, Responses};
use crate::listed;
use crate::operation::{
    Answer, Incremented, Lifetime, Operation, PutOptions, Removed, TtlChange, Versioned, Written, found,
    lifetime, put, touch,
};
use crate::scan::{Scan, ScanOptions};
use crate::watch::{Watch, WatchFrom};

/// A map of bytes to bytes. From [`Client::raw_map`](crate::Client::raw_map).
///
/// Reads of a map that does not exist fail with [`Error::MapNotFound`]; the first write creates it with the grid's
/// defaults. Every write carries a request id and is repeated after a failure of the connection without taking effect
/// twice.
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// let map = client.raw_map("flights");
/// map.put("UA,1545", "on time").await?;
/// let found = map.get("UA,1545").await?.expect("it was just written");
/// assert_eq!(found.value, "on time");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RawMap {
    caller: Arc<Caller>,
    name: String,
}

impl RawMap {
    pub(crate) fn new(caller: Arc<Caller>, name: String) -> Self {
        Self { caller, name }
    }

    /// The map's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entry of a key.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Versioned<Bytes>>, Error> {
        let key = key.into();
        let answer = self.caller.read_at((&self.name, &key), |attempt| {
            let message = v1::GetRequest { map: self.name.clone(), key: key.clone() };
            async move { attempt.maps().get(attempt.request(message)).await }
        });
        Ok(found(answer.await?))
    }

    /// Writes a value and answers the entry's new version.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, Error> {
        self.put_with(key, value, PutOptions::new()).await
    }

    /// Writes a value under conditions.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] and [`Error::VersionMismatch`] when the condition does not hold.
    pub async fn put_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<u64, Error> {
        let message = put(self.name.clone(), key.into(), value.into(), options);
        Ok(self.send_put(message).await?.version)
    }

    /// Writes a value and answers the one that was there.
    pub async fn get_and_put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Written<Bytes>, Error> {
        let message = put(self.name.clone(), key.into(), value.into(), options);
        self.send_put(v1::PutRequest { return_previous: true, ..message }).await
    }

    async fn send_put(&self, message: v1::PutRequest) -> Result<Written<Bytes>, Error> {
        let answer = self.caller.write_at((&self.name, &message.key), |attempt| {
            let message = v1::PutRequest { request_id: attempt.request_id.clone(), ..message.clone() };
            async move { attempt.maps().put(attempt.request(message)).await }
        });
        Ok(answer.await?.into())
    }

    /// Removes an entry and answers whether there was one.
    pub async fn remove(&self, key: impl Into<Bytes>) -> Result<bool, Error> {
        Ok(self.send_remove(self.removal(key)).await?.found)
    }

    /// Removes an entry that has this version.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`]
    pub async fn remove_if_version(&self, key: impl Into<Bytes>, version: u64) -> Result<bool, Error> {
        let message = v1::RemoveRequest { if_version: Some(version), ..self.removal(key) };
        Ok(self.send_remove(message).await?.found)
    }

    /// Removes an entry and answers its value.
    pub async fn get_and_remove(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        let message = v1::RemoveRequest { return_previous: true, ..self.removal(key) };
        Ok(self.send_remove(message).await?.previous)
    }

    fn removal(&self, key: impl Into<Bytes>) -> v1::RemoveRequest {
        v1::RemoveRequest { map: self.name.clone(), key: key.into(), ..Default::default() }
    }

    async fn send_remove(&self, message: v1::RemoveRequest) -> Result<Removed<Bytes>, Error> {
        let answer = self.caller.write_at((&self.name, &message.key), |attempt| {
            let message = v1::RemoveRequest { request_id: attempt.request_id.clone(), ..message.clone() };
            async move { attempt.maps().remove(attempt.request(message)).await }
        });
        Ok(answer.await?.into())
    }

    /// Adds to an integer, kept as decimal text; an absent entry counts as 0.
    pub async fn increment(&self, key: impl Into<Bytes>, delta: i64) -> Result<Incremented, Error> {
        let key = key.into();
        let answer = self.caller.write_at((&self.name, &key), |attempt| {
            let request_id = attempt.request_id.clone();
            let message =
                v1::IncrementRequest { map: self.name.clone(), key: key.clone(), delta, request_id };
            async move { attempt.maps().increment(attempt.request(message)).await }
        });
        Ok(answer.await?.into())
    }

    /// Reads, sets or clears an entry's time to live; `None` when there is no such entry.
    pub async fn touch(&self, key: impl Into<Bytes>, change: TtlChange) -> Result<Option<Lifetime>, Error> {
        let key = key.into();
        let answer = self.caller.write_at((&self.name, &key), |attempt| {
            let request_id = attempt.request_id.clone();
            let change = touch(change);
            let message = v1::TouchRequest { map: self.name.clone(), key: key.clone(), request_id, change };
            async move { attempt.maps().touch(attempt.request(message)).await }
        });
        Ok(lifetime(answer.await?))
    }

    /// How long an entry will live.
    pub async fn lifetime(&self, key: impl Into<Bytes>) -> Result<Option<Lifetime>, Error> {
        self.touch(key, TtlChange::Read).await
    }

    /// Gives an entry this much longer to live, from now.
    pub async fn set_ttl(&self, key: impl Into<Bytes>, ttl: Duration) -> Result<Option<Lifetime>, Error> {
        self.touch(key, TtlChange::Set(ttl)).await
    }

    /// Mixed operations, each with an answer of its own, in the order asked. Not atomic across keys: each member that decides about some
    /// of them is asked in a call of its own, all at once.
    ///
    /// # Errors
    /// When the whole batch was refused; what became of single operations is in their answers. While some of them are refused for
    /// a moment, their call is repeated as a whole under its request id until the client's timeout: what is done is not done again.
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<Result<Answer, Error>>, Error> {
        listed::perform(&self.caller, &self.name, operations).await
    }

    /// The entries of many keys, in their order.
    ///
    /// # Errors
    /// The first that any of the keys has.
    pub async fn get_many<K: Into<Bytes>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Versioned<Bytes>>>, Error> {
        let gets = keys.into_iter().map(|key| Operation::Get { key: key.into() }).collect();
        let answers = self.batch(gets).await?;
        let values = answers.into_iter().map(|answer| match answer? {
            Answer::Value(value) => Ok(value),
            _ => Err(Error::MalformedAnswer { what: "a get is answered by a value" }),
        });
        values.collect()
    }

    /// Writes many entries and answers each one's new version, in their order.
    ///
    /// # Errors
    /// When the whole batch was refused; what became of single writes is in their answers.
    pub async fn put_many<K: Into<Bytes>, V: Into<Bytes>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        options: PutOptions,
    ) -> Result<Vec<Result<u64, Error>>, Error> {
        let puts = entries.into_iter();
        let puts = puts.map(|(key, value)| Operation::Put { key: key.into(), value: value.into(), options });
        let answers = self.batch(puts.collect()).await?;
        let versions = answers.into_iter().map(|answer| match answer? {
            Answer::Written(written) => Ok(written.version),
            _ => Err(Error::MalformedAnswer { what: "a put is answered by a version" }),
        });
        Ok(versions.collect())
    }

    /// All entries, in no order.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        Scan::new(self.caller.clone(), self.name.clone(), options)
    }

    /// Committed changes of keys that begin with `prefix`, as they happen.
    pub fn watch(&self, prefix: impl Into<Bytes>, from: WatchFrom) -> Watch {
        let request = v1::WatchRequest {
            map: self.name.clone(),
            prefix: prefix.into(),
            token: from.token(),
            partitions: Vec::new(),
        };
        Watch::new(self.caller.clone(), request)
    }

    /// How many entries the map has.
    pub async fn size(&self) -> Result<u64, Error> {
        let answer = self.caller.read(|attempt| {
            let message = v1::SizeRequest { map: self.name.clone(), partitions: Vec::new() };
            async move { attempt.maps().size(attempt.request(message)).await }
        });
        Ok(answer.await?.entries)
    }

    /// Removes all entries and answers how many there were.
    pub async fn clear(&self) -> Result<u64, Error> {
        let answer = self.caller.write(|attempt| {
            let message = v1::ClearRequest {
                map: self.name.clone(),
                request_id: attempt.request_id.clone(),
                partitions: Vec::new(),
            };
            async move { attempt.maps().clear(attempt.request(message)).await }
        });
        Ok(answer.await?.removed)
    }

    /// Runs an entry processor on one key, whether or not it has an entry.
    ///
    /// # Errors
    /// [`Error::FunctionFailed`] with the function's own code and message, [`Error::FunctionStopped`],
    /// [`Error::FunctionNotFound`] and others; none of them has changed the entry, except [`Error::InDoubt`], which
    /// may have.
    pub async fn invoke(
        &self,
        function: &str,
        key: impl Into<Bytes>,
        argument: impl Into<Bytes>,
    ) -> Result<Invoked, Error> {
        let request = v1::InvokeRequest {
            function: function.to_owned(),
            map: self.name.clone(),
            key: key.into(),
            argument: argument.into(),
            request_id: None,
        };
        let answer = self.caller.write_at((&self.name, &request.key), |attempt| {
            let message = v1::InvokeRequest { request_id: attempt.request_id.clone(), ..request.clone() };
            async move { attempt.compute().invoke(attempt.request(message)).await }
        });
        let answer = answer.await?;
        Ok(Invoked { response: answer.response, module: answer.module })
    }

    /// Runs an entry processor on each of many keys. Answers come per partition as they are ready.
    pub async fn invoke_keys<K: Into<Bytes>>(
        &self,
        function: &str,
        keys: impl IntoIterator<Item = K>,
        argument: impl Into<Bytes>,
    ) -> Result<InvokeStream, Error> {
        let request = v1::InvokeKeysRequest {
            function: function.to_owned(),
            map: self.name.clone(),
            keys: keys.into_iter().map(Into::into).collect(),
            argument: argument.into(),
            ..Default::default()
        };
        InvokeStream::open(self.caller.clone(), Call::Keys(request)).await
    }

    /// Runs an entry processor on every entry. Answers and progress come per partition.
    pub async fn invoke_all(
        &self,
        function: &str,
        argument: impl Into<Bytes>,
        responses: Responses,
    ) -> Result<InvokeStream, Error> {
        let request = v1::InvokeAllRequest {
            function: function.to_owned(),
            map: self.name.clone(),
            argument: argument.into(),
            discard_responses: responses == Responses::Discard,
            ..Default::default()
        };
        InvokeStream::open(self.caller.clone(), Call::All(request)).await
    }
}
