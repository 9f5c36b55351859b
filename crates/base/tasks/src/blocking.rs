//! Work that blocks, on a thread of its own.

/// Runs `work` where it may block. A panic in it continues in the caller. While the runtime itself is shutting down this
/// never resolves: its caller will not be polled again.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(finished) => finished,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_and_panics_come_back() {
        assert_eq!(blocking(|| 7).await, 7);
        let panicked = tokio::spawn(blocking(|| -> u32 { panic!("in the work") })).await;
        assert!(panicked.expect_err("it panicked").is_panic());
    }
}
