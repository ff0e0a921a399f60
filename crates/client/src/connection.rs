//! The connections that all calls share: to the addresses that were given, and to members that decide about keys.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::endpoints::{Connection, Endpoints};
use crate::error::Error;
use crate::failure::Failure;
use crate::options::Options;
use crate::routes::{Member, Routes, TableVersion};
use crate::table_watch::TableWatch;

#[derive(Debug)]
pub(crate) struct Connections {
    endpoints: Arc<Endpoints>,
    routes: Arc<Routes>,
    /// Keeps the routes; `None` if they are not to be known.
    watch: Option<JoinHandle<()>>,
}

/// Where the attempts of a call go.
#[derive(Debug, Default)]
pub(crate) struct Course<'a> {
    /// It is about this key of this map alone.
    entry: Option<(&'a str, &'a [u8])>,
    /// An attempt that went straight by this table has failed.
    failed: Option<TableVersion>,
}

/// What an attempt takes.
#[derive(Debug)]
pub(crate) enum Way {
    /// Straight to the member that decides, by this table.
    Straight(Channel, TableVersion),
    /// By an address that was given.
    Given(Arc<Connection>),
    /// By a member: it decides about all that is sent, or none of the addresses that were given answers.
    Member(Channel),
}

impl<'a> Course<'a> {
    /// Of a call on one key of a map.
    pub(crate) fn to(entry: (&'a str, &'a [u8])) -> Self {
        Self { entry: Some(entry), failed: None }
    }

    /// What became of an attempt.
    pub(crate) fn note(&mut self, way: &Way, failure: Option<&Failure>) {
        match way {
            // Who is merely busy is the right one.
            Way::Straight(_, table) if failure.is_some_and(Failure::is_of_the_place) => {
                self.failed = Some(*table)
            }
            Way::Straight(..) | Way::Member(_) => {}
            Way::Given(connection) => connection.note(failure),
        }
    }
}

impl Way {
    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::Straight(channel, _) | Self::Member(channel) => channel.clone(),
            Self::Given(connection) => connection.channel(),
        }
    }
}

impl Connections {
    pub(crate) fn prepare(options: &Options) -> Result<Self, Error> {
        let endpoints = Arc::new(Endpoints::prepare(options)?);
        let routes = Arc::new(Routes::default());
        let watch = TableWatch::new(Arc::clone(&endpoints), Arc::clone(&routes), options.clone());
        let watch = options.straight.then(|| tokio::spawn(watch.run()));
        Ok(Self { endpoints, routes, watch })
    }

    /// What is known of the grid's members.
    pub(crate) fn routes(&self) -> &Routes {
        self.routes.use_now();
        &self.routes
    }

    /// The way to a member, if it is connected.
    pub(crate) fn to(&self, member: &Member) -> Option<Way> {
        member.channel().map(Way::Member)
    }

    /// The next way of a call: straight, unless that has failed by the same table; else by any node, which sends it on.
    pub(crate) fn next(&self, course: &Course<'_>) -> Way {
        self.routes.use_now();
        if let Some(entry) = course.entry
            && let Some((channel, table)) = self.routes.to(entry)
            && course.failed != Some(table)
        {
            return Way::Straight(channel, table);
        }
        if let Some(connection) = self.endpoints.sound() {
            return Way::Given(Arc::clone(connection));
        }
        match self.routes.anywhere() {
            Some(channel) => Way::Member(channel),
            None => Way::Given(Arc::clone(self.endpoints.next())),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}
