//! Whether an operator has drained this node: then no job is fetched, and what waits here is done.

use tokio::sync::watch;

use crate::fleet::availability::{Obstacle, Obstacles};

/// Watches the obstacles for that one.
#[derive(Clone, Debug)]
pub(super) struct DrainWatch(pub watch::Receiver<Obstacles>);

impl DrainWatch {
    pub fn is_drained(&self) -> bool {
        self.0.borrow().contains_key(&Obstacle::Drained)
    }

    /// Resolves when the node is drained.
    pub async fn drained(&self) {
        let mut obstacles = self.0.clone();
        if obstacles.wait_for(|obstacles| obstacles.contains_key(&Obstacle::Drained)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when that is over.
    pub async fn undrained(&self) {
        // Nobody drains any more where the sender is gone.
        let _ = self.0.clone().wait_for(|obstacles| !obstacles.contains_key(&Obstacle::Drained)).await;
    }
}
