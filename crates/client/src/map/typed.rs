//! A map of typed keys and values over a map of bytes.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::codec::{Codec, FromKey, Key};
use crate::error::Error;
use crate::map::RawMap;
use crate::operation::{Incremented, Lifetime, PutOptions, TtlChange, Versioned, Written};
use crate::scan::{Scan, ScanOptions, ScannedEntry};

/// Maps own no values, so that they may be shared between threads whatever the types are.
type Types<K, V, C> = fn() -> (K, V, C);

/// A map of keys `K` to values `V`, encoded by `C`. From [`Client::map`](crate::Client::map) (JSON) and
/// [`Client::map_with`](crate::Client::map_with).
///
/// ```no_run
/// # async fn example(client: wattle_client::Client) -> Result<(), wattle_client::Error> {
/// use serde::{Deserialize, Serialize};
/// use wattle_client::{Error, PutOptions};
///
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     balance: i64,
/// }
///
/// let accounts = client.map::<String, Account>("accounts");
/// accounts.put("alice", &Account { balance: 10 }).await?;
/// if let Some(mut account) = accounts.get("alice").await? {
///     account.value.balance += 1;
///     let unchanged_since = PutOptions::new().if_version(account.version);
///     match accounts.put_with("alice", &account.value, unchanged_since).await {
///         Ok(version) => println!("now at version {version}"),
///         Err(Error::VersionMismatch { current, .. }) => println!("somebody else was faster: {current:?}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Map<K, V, C> {
    raw: RawMap,
    types: PhantomData<Types<K, V, C>>,
}

impl<K, V, C> Map<K, V, C> {
    pub(crate) fn new(raw: RawMap) -> Self {
        Self { raw, types: PhantomData }
    }

    /// The map of bytes below: for what needs no types, and for [`RawMap::watch`] and [`RawMap::batch`].
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }

    /// How many entries the map has.
    pub async fn size(&self) -> Result<u64, Error> {
        self.raw.size().await
    }

    /// Removes all entries and answers how many there were.
    pub async fn clear(&self) -> Result<u64, Error> {
        self.raw.clear().await
    }
}

impl<K: Key, V, C> Map<K, V, C> {
    /// Removes an entry and answers whether there was one.
    pub async fn remove<Q: Key + ?Sized>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.remove(key.to_key()).await
    }

    /// Removes an entry that has this version.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`]
    pub async fn remove_if_version<Q: Key + ?Sized>(&self, key: &Q, version: u64) -> Result<bool, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.remove_if_version(key.to_key(), version).await
    }

    /// Adds to an integer; an absent entry counts as 0. For maps of integers, whose codec is [`Json`](crate::Json) or
    /// [`Text`](crate::Text).
    pub async fn increment<Q: Key + ?Sized>(&self, key: &Q, delta: i64) -> Result<Incremented, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.increment(key.to_key(), delta).await
    }

    /// Reads, sets or clears an entry's time to live.
    pub async fn touch<Q: Key + ?Sized>(&self, key: &Q, change: TtlChange) -> Result<Option<Lifetime>, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.touch(key.to_key(), change).await
    }

    /// Gives an entry this much longer to live, from now.
    pub async fn set_ttl<Q: Key + ?Sized>(&self, key: &Q, ttl: Duration) -> Result<Option<Lifetime>, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.set_ttl(key.to_key(), ttl).await
    }

    /// Runs an entry processor on one key; the map's codec encodes the argument and decodes the response.
    ///
    /// # Errors
    /// As [`RawMap::invoke`].
    pub async fn invoke<A, R, Q: Key + ?Sized>(
        &self,
        function: &str,
        key: &Q,
        argument: &A,
    ) -> Result<R, Error>
    where
        K: Borrow<Q>,
        C: Codec<A> + Codec<R>,
    {
        let argument = <C as Codec<A>>::encode(argument)?;
        let invoked = self.raw.invoke(function, key.to_key(), argument).await?;
        Ok(<C as Codec<R>>::decode(&invoked.response)?)
    }
}

impl<K: Key, V, C: Codec<V>> Map<K, V, C> {
    /// The entry of a key.
    pub async fn get<Q: Key + ?Sized>(&self, key: &Q) -> Result<Option<Versioned<V>>, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.get(key.to_key()).await?.as_ref().map(Self::decode).transpose()
    }

    /// The entries of many keys, in their order.
    pub async fn get_many<'k, Q: Key + ?Sized + 'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Result<Vec<Option<Versioned<V>>>, Error>
    where
        K: Borrow<Q>,
    {
        let found = self.raw.get_many(keys.into_iter().map(Key::to_key)).await?;
        found.iter().map(|entry| entry.as_ref().map(Self::decode).transpose()).collect()
    }

    /// Writes a value and answers the entry's new version.
    pub async fn put<Q: Key + ?Sized>(&self, key: &Q, value: &V) -> Result<u64, Error>
    where
        K: Borrow<Q>,
    {
        self.put_with(key, value, PutOptions::new()).await
    }

    /// Writes a value under conditions.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] and [`Error::VersionMismatch`] when the condition does not hold.
    pub async fn put_with<Q: Key + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        options: PutOptions,
    ) -> Result<u64, Error>
    where
        K: Borrow<Q>,
    {
        self.raw.put_with(key.to_key(), C::encode(value)?, options).await
    }

    /// Writes many entries and answers each one's new version, in their order.
    pub async fn put_many<'e, Q: Key + ?Sized + 'e>(
        &self,
        entries: impl IntoIterator<Item = (&'e Q, &'e V)>,
        options: PutOptions,
    ) -> Result<Vec<Result<u64, Error>>, Error>
    where
        K: Borrow<Q>,
        V: 'e,
    {
        let mut encoded = Vec::new();
        for (key, value) in entries {
            encoded.push((key.to_key(), C::encode(value)?));
        }
        self.raw.put_many(encoded, options).await
    }

    /// Writes a value and answers the one that was there.
    pub async fn get_and_put<Q: Key + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        options: PutOptions,
    ) -> Result<Written<V>, Error>
    where
        K: Borrow<Q>,
    {
        let written = self.raw.get_and_put(key.to_key(), C::encode(value)?, options).await?;
        let previous = written.previous.map(|value| C::decode(&value)).transpose()?;
        Ok(Written { version: written.version, previous })
    }

    /// Removes an entry and answers its value.
    pub async fn get_and_remove<Q: Key + ?Sized>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
    {
        let removed = self.raw.get_and_remove(key.to_key()).await?;
        Ok(removed.map(|value| C::decode(&value)).transpose()?)
    }

    fn decode(found: &Versioned<bytes::Bytes>) -> Result<Versioned<V>, Error> {
        Ok(Versioned { value: C::decode(&found.value)?, version: found.version })
    }
}

impl<K: FromKey, V, C: Codec<V>> Map<K, V, C> {
    /// All entries, in no order. Values are decoded, so the scan must not be of keys only.
    pub fn scan(&self, options: ScanOptions) -> TypedScan<K, V, C> {
        TypedScan { raw: self.raw.scan(options), types: PhantomData }
    }
}

/// A scan of typed entries. From [`Map::scan`].
pub struct TypedScan<K, V, C> {
    raw: Scan,
    types: PhantomData<Types<K, V, C>>,
}

impl<K: FromKey, V, C: Codec<V>> TypedScan<K, V, C> {
    /// The next entry; `None` at the end of the map or of the limit.
    ///
    /// # Errors
    /// As [`Scan::next`], and [`Error::Codec`].
    pub async fn next(&mut self) -> Result<Option<ScannedEntry<K, V>>, Error> {
        let Some(entry) = self.raw.next().await? else { return Ok(None) };
        let (key, value) = (K::from_key(&entry.key)?, C::decode(&entry.value)?);
        Ok(Some(ScannedEntry { key, value, version: entry.version, ttl: entry.ttl }))
    }
}

impl<K, V, C> Clone for Map<K, V, C> {
    fn clone(&self) -> Self {
        Self::new(self.raw.clone())
    }
}

impl<K, V, C> fmt::Debug for Map<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Map").field(&self.raw).finish()
    }
}

impl<K, V, C> fmt::Debug for TypedScan<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedScan").field(&self.raw).finish()
    }
}
