//! The shim's loop: wait for something to happen, deal with it, wait again.

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::client::{Client, ClientId};
use super::container::{Container, Ending, Phase};
use super::exec::{self, Exec};
use super::helper::Outcome;
use super::output::Stream;
use super::setup::Prepared;
use crate::layout::{self, ContainerRecord};
use crate::spec::Processes;
use crate::wire::{self, Failure, Message, Operation, Reply, Request};

pub(super) struct Server {
    prepared: Prepared,
    clients: Vec<Client>,
    next_client: u64,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    /// Who waits for the death of all containers; `Some` also refuses new ones.
    stopping: Option<Vec<(ClientId, u64)>>,
    finished: bool,
    buffer: Box<[u8]>,
}

/// What a descriptor in the poll set stands for, by position in the server's lists.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(usize),
    ContainerHelper,
    Output(usize, usize),
    Stdin(usize),
    AttachedInput(usize, usize),
    AttachedOutput(usize, usize, Stream),
    ExecHelper,
}

impl Server {
    pub(super) fn new(prepared: Prepared) -> Self {
        Self {
            prepared,
            clients: Vec::new(),
            next_client: 0,
            containers: Vec::new(),
            execs: Vec::new(),
            stopping: None,
            finished: false,
            buffer: vec![0; 16 << 10].into_boxed_slice(),
        }
    }

    /// Runs until a client asks for the end.
    pub(super) fn run(mut self) {
        while !self.finished {
            for (source, events) in self.wait() {
                self.handle(source, events);
            }
            self.advance_helpers();
            self.finish_containers();
            self.sweep();
        }
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut sources = Vec::new();
        let mut set = Vec::new();
        let mut add = |source, fd, events| {
            sources.push(source);
            set.push(PollFd::new(fd, events));
        };
        self.watched(&mut add);
        while let Err(error) = poll(&mut set, PollTimeout::NONE) {
            if error != nix::errno::Errno::EINTR {
                break; // out of memory for a moment: nothing is ready, and we ask again
            }
        }
        let ready = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        sources.into_iter().zip(set.iter().map(ready)).filter(|(_, events)| !events.is_empty()).collect()
    }

    fn watched<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        let (read, write, broken) = (PollFlags::POLLIN, PollFlags::POLLOUT, PollFlags::empty());
        add(Source::Signals, self.prepared.signals.as_fd(), read);
        add(Source::Listener, self.prepared.listener.as_fd(), read);
        for (index, client) in self.clients.iter().enumerate() {
            let events = if client.has_output() { read | write } else { read };
            add(Source::Client(index), client.socket.as_fd(), events);
        }
        for (index, container) in self.containers.iter().enumerate() {
            if let Phase::Starting { helper, .. } = &container.phase {
                add(Source::ContainerHelper, helper.socket().as_fd(), read);
            }
            for (number, output) in container.outputs.iter().enumerate() {
                if !container.is_held_back(output.stream) {
                    add(Source::Output(index, number), output.fd.as_fd(), read);
                }
            }
            let takes_input = container.stdin.as_ref().is_some_and(|sink| !sink.is_full());
            if let Some(sink) = container.stdin.as_ref().filter(|sink| sink.is_full()) {
                add(Source::Stdin(index), sink.fd.as_fd(), write);
            }
            for (number, attached) in container.attached.iter().enumerate() {
                if let Some(stdin) = attached.stdin.as_ref().filter(|_| takes_input) {
                    add(Source::AttachedInput(index, number), stdin.as_fd(), read);
                }
                for (stream, sink) in [(Stream::Stdout, &attached.stdout), (Stream::Stderr, &attached.stderr)] {
                    if let Some(sink) = sink {
                        let events = if sink.is_full() { write } else { broken };
                        add(Source::AttachedOutput(index, number, stream), sink.fd.as_fd(), events);
                    }
                }
            }
        }
        for exec in &self.execs {
            if let exec::Phase::Starting { helper, .. } = &exec.phase {
                add(Source::ExecHelper, helper.socket().as_fd(), read);
            }
        }
    }

    fn handle(&mut self, source: Source, events: PollFlags) {
        match source {
            Source::Signals => {
                while let Ok(Some(_)) = self.prepared.signals.read_signal() {}
                self.reap();
            }
            Source::Listener => self.accept(),
            Source::Client(index) => {
                if events.contains(PollFlags::POLLOUT) {
                    self.clients[index].flush();
                }
                let id = self.clients[index].id;
                for request in self.clients[index].receive() {
                    self.serve(id, request);
                }
            }
            Source::Output(index, number) => {
                // An earlier event of this round may have read and removed it.
                if number < self.containers[index].outputs.len() {
                    self.containers[index].read_output(number, &mut self.buffer);
                }
            }
            Source::Stdin(index) => self.containers[index].flush_stdin(),
            Source::AttachedInput(index, number) => self.containers[index].read_attached(number, &mut self.buffer),
            Source::AttachedOutput(index, number, stream) => {
                let attached = &mut self.containers[index].attached[number];
                if events.contains(PollFlags::POLLERR) {
                    *attached.sink(stream) = None;
                } else {
                    attached.flush(stream);
                }
                if self.containers[index].has_exited() {
                    self.containers[index].attached[number].close();
                }
            }
            Source::ContainerHelper | Source::ExecHelper => {} // all helpers are looked at after every round
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.prepared.listener.accept() {
            let id = ClientId(self.next_client);
            self.next_client += 1;
            if let Ok(client) = Client::new(id, socket) {
                self.clients.push(client);
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, ending) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ending { code, signal: None }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, Ending { code: 128 + signal as i32, signal: Some(signal as i32) })
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            // A process becomes our child only when its helper has ended, so what the helper reported about it
            // is in our hands now.
            self.advance_helpers();
            self.ended(pid.as_raw(), ending);
        }
    }

    fn ended(&mut self, pid: i32, ending: Ending) {
        if let Some(container) = self.containers.iter_mut().find(|c| c.pid() == Some(pid)) {
            container.reaped(ending);
            let sandbox = &self.prepared.record;
            if sandbox.spec.processes != Processes::Own || container.joined {
                // Its pid namespace goes on, and would its other processes.
                let group = sandbox.cgroup().join(&container.id);
                let _ = self.prepared.cgroups.kill(&group);
            }
        }
        for exec in &mut self.execs {
            if matches!(exec.phase, exec::Phase::Running { pid: p } if p == pid) {
                exec.phase = exec::Phase::Over;
                let message = Message::ExecExited { exec: exec.id, exit_code: ending.code };
                if let Some(client) = self.clients.iter_mut().find(|c| c.id == exec.client) {
                    client.send(&message, Vec::new());
                }
            }
        }
    }

    /// Moves on every start whose helper has said enough.
    fn advance_helpers(&mut self) {
        for index in 0..self.containers.len() {
            self.advance_container(index);
        }
        for index in 0..self.execs.len() {
            self.advance_exec(index);
        }
    }

    fn advance_container(&mut self, index: usize) {
        let container = &mut self.containers[index];
        let Phase::Starting { helper, client, request } = &mut container.phase else { return };
        let (client, request) = (*client, *request);
        let outcome = match helper.progress() {
            Outcome::Pending => return,
            Outcome::Failed(message) => Err(message),
            Outcome::Executed => {
                let (pid, terminal) = (helper.pid.unwrap_or_default(), helper.terminal.take());
                let warnings = std::mem::take(&mut helper.warnings);
                match container.started(pid, terminal) {
                    Ok(started_at) => Ok(Reply::Started { pid, started_at, warnings }),
                    Err(e) => {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                        Err(format!("cannot record its start: {e}"))
                    }
                }
            }
        };
        let result = outcome.map_err(|message| Failure { exit: Some(container.start_failed(&message)), message });
        if let (Some(_), Some(pid)) = (&self.stopping, container.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.reply(client, request, result, Vec::new());
    }

    fn advance_exec(&mut self, index: usize) {
        let exec = &mut self.execs[index];
        let exec::Phase::Starting { helper, request, ends } = &mut exec.phase else { return };
        let (client, request) = (exec.client, *request);
        let (result, descriptors, phase) = match helper.progress() {
            Outcome::Pending => return,
            Outcome::Failed(message) => (Err(Failure::new(message)), Vec::new(), exec::Phase::Over),
            Outcome::Executed => {
                let mut ends = std::mem::take(ends);
                ends.extend(helper.terminal.take().map(|fd| (wire::StreamKind::Terminal, fd)));
                let (streams, descriptors) = ends.into_iter().unzip();
                let phase = exec::Phase::Running { pid: helper.pid.unwrap_or_default() };
                (Ok(Reply::Streams { streams }), descriptors, phase)
            }
        };
        exec.phase = phase;
        self.reply(client, request, result, descriptors);
    }

    fn finish_containers(&mut self) {
        for container in &mut self.containers {
            if let Some(status) = container.finish(&mut self.buffer) {
                let message = Message::ContainerExited { container: container.id.clone(), status };
                for client in &mut self.clients {
                    client.send(&message, Vec::new());
                }
            }
        }
        if self.containers.iter().all(Container::has_exited)
            && let Some(waiting) = &mut self.stopping
        {
            for (client, request) in std::mem::take(waiting) {
                self.reply(client, request, Ok(Reply::Done), Vec::new());
            }
        }
    }

    /// Positions in the lists change only here, when no event refers to them.
    fn sweep(&mut self) {
        self.clients.retain(|client| !client.dead);
        self.execs.retain(|exec| !exec.is_over());
        for container in &mut self.containers {
            container.attached.retain(|attached| !attached.is_over());
        }
        self.containers.retain(|container| !container.forgotten);
    }

    fn reply(
        &mut self,
        client: ClientId,
        id: u64,
        result: Result<Reply, Failure>,
        descriptors: Vec<std::os::fd::OwnedFd>,
    ) {
        if let Some(client) = self.clients.iter_mut().find(|c| c.id == client) {
            client.send(&Message::Reply { id, result }, descriptors);
        }
    }

    fn serve(&mut self, client: ClientId, request: Request) {
        let id = request.id;
        let result = match request.operation {
            Operation::Hello { version } => {
                if version != wire::VERSION
                    && let Some(client) = self.clients.iter_mut().find(|c| c.id == client)
                {
                    client.dead = true; // after the answer below, which says what we speak
                }
                Ok(Reply::Hello { version: wire::VERSION })
            }
            Operation::Start { container } => match self.start(&container, client, id) {
                Ok(()) => return, // answered when the helper has reported
                Err(message) => Err(Failure::new(message)),
            },
            Operation::Signal { exec: Some(exec), .. } => Ok(self.end_exec(exec, client)),
            Operation::Signal { container, signal, exec: None } => self.signal(&container, signal),
            Operation::Exec { container, exec, spec } => match self.exec(&container, exec, &spec, client, id) {
                Ok(()) => return,
                Err(message) => Err(Failure::new(message)),
            },
            Operation::Attach { container, seen } => match self.attach(&container, seen) {
                Ok(ends) => {
                    self.reply(client, id, Ok(Reply::Streams { streams: ends.streams }), ends.descriptors);
                    return;
                }
                Err(message) => Err(Failure::new(message)),
            },
            Operation::Forget { container } => self.forget(&container),
            Operation::Stop => {
                self.stop(client, id);
                return;
            }
            Operation::Shutdown => {
                self.finished = self.containers.iter().all(Container::has_exited);
                if self.finished { Ok(Reply::Done) } else { Err(Failure::new("a container still runs")) }
            }
        };
        self.reply(client, id, result, Vec::new());
    }

    fn find(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|c| c.id == id)
    }

    fn start(&mut self, id: &str, client: ClientId, request: u64) -> Result<(), String> {
        if self.stopping.is_some() {
            return Err("its sandbox is stopped".to_owned());
        }
        if self.find(id).is_some() {
            return Err("it was started before".to_owned());
        }
        let directory = self.prepared.directory.container(id);
        let record: ContainerRecord =
            layout::load(&directory.record()).map_err(|e| format!("cannot read its record: {e}"))?;
        let sandbox = &self.prepared.record;
        let group = sandbox.cgroup().join(id);
        let oom_counter = self.prepared.cgroups.oom_counter(&group);
        let container = Container::start(directory, &record.spec, oom_counter, client, request)
            .map_err(|e| format!("cannot prepare its streams and helper: {e}"))?;
        self.containers.push(container);
        Ok(())
    }

    fn signal(&mut self, id: &str, signal: i32) -> Result<Reply, Failure> {
        let container = self.find(id).ok_or_else(|| Failure::new("it was never started"))?;
        let signal = Signal::try_from(signal).map_err(|_| Failure::new(format!("there is no signal {signal}")))?;
        match container.phase {
            // Its pid is not used again before we have reaped it.
            Phase::Running { pid, .. } => match kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(Reply::Done),
                Err(e) => Err(Failure::new(format!("cannot send {signal}: {e}"))),
            },
            Phase::Starting { .. } => Err(Failure::new("it is still starting")),
            Phase::Ending { .. } | Phase::Exited => Ok(Reply::Done),
        }
    }

    fn exec(
        &mut self,
        id: &str,
        exec: u64,
        spec: &crate::ExecSpec,
        client: ClientId,
        request: u64,
    ) -> Result<(), String> {
        let container = self.find(id).ok_or("it does not run")?;
        if !matches!(container.phase, Phase::Running { .. }) {
            return Err("it does not run".to_owned());
        }
        let exec = Exec::start(container.directory(), spec, exec, client, request)
            .map_err(|e| format!("cannot prepare the streams and the helper: {e}"))?;
        self.execs.push(exec);
        Ok(())
    }

    /// One that has ended, or does not run yet, is let alone.
    fn end_exec(&self, id: u64, client: ClientId) -> Reply {
        let exec = self.execs.iter().find(|exec| exec.id == id && exec.client == client);
        if let Some(Exec { phase: exec::Phase::Running { pid }, .. }) = exec {
            // Its pid is not used again before we have reaped it.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        Reply::Done
    }

    fn attach(&mut self, id: &str, seen: u64) -> Result<super::attach::ClientEnds, String> {
        let container = self.find(id).ok_or("it does not run")?;
        if !matches!(container.phase, Phase::Running { .. }) {
            return Err("it does not run".to_owned());
        }
        container.attach(seen).map_err(|e| format!("cannot make the streams: {e}"))
    }

    fn forget(&mut self, id: &str) -> Result<Reply, Failure> {
        match self.find(id) {
            Some(container) if container.has_exited() => {
                container.forgotten = true;
                Ok(Reply::Done)
            }
            Some(_) => Err(Failure::new("it still runs")),
            None => Ok(Reply::Done),
        }
    }

    fn stop(&mut self, client: ClientId, request: u64) {
        self.stopping.get_or_insert_default().push((client, request));
        for pid in self.containers.iter().filter_map(Container::pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
