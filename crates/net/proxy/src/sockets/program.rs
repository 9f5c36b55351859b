//! The programs that sockets meet when they connect, and when they are asked whom they are connected to.

use std::ops::Range;

use base_sys::bpf::{Alu, Asm, Attach, Condition, Error, Helper, Label, Program, Reg, Size};

use super::maps::{Maps, PEER};
use crate::frontend::Family;
use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};

/// Fields of the kernel's `bpf_sock_addr`.
const ADDRESS4: i16 = 4;
const ADDRESS6: i16 = 8;
const PORT: i16 = 24;
const PROTOCOL: i16 = 36;
const SOCKET: i16 = 64;

const ALL_WORDS: Range<i16> = 0..4;
const TCP: i32 = 6;
/// Third word of an IPv4 address written as IPv6.
const MAPPED: i32 = (0xffff_u32.to_be()).cast_signed();

/// On the stack: the network namespace, and below it a key of the endpoints (address, port, slot).
const NETNS: i16 = -8;
const KEY: i16 = NETNS - 20;
/// Parts of a key or a value.
const OF_PORT: i16 = 16;
const OF_SLOT: i16 = 18;
/// In what is noted of a socket, behind the address that it asked for: the one that it got.
const OF_ENDPOINT: i16 = 20;

pub(super) const ALL: [Attach; 4] = [Attach::Connect4, Attach::Connect6, Attach::PeerName4, Attach::PeerName6];

pub(super) fn load(attach: Attach, maps: &Maps) -> Result<Program, Error> {
    let (name, text) = match attach {
        Attach::Connect4 => ("sampan_connect4", connect(Family::V4, maps)),
        Attach::Connect6 => ("sampan_connect6", connect(Family::V6, maps)),
        Attach::PeerName4 => ("sampan_peer4", peer_name(Family::V4, maps)),
        Attach::PeerName6 => ("sampan_peer6", peer_name(Family::V6, maps)),
    };
    Program::load(name, attach, text)
}

/// A socket of ours that connects to a front end connects to one of its endpoints. Whatever is not found leaves the address
/// as it is.
fn connect(family: Family, maps: &Maps) -> Asm {
    let mut asm = Asm::default();
    let untouched = asm.label();
    asm.alu(Alu::Move, R6, R1);
    asm.load(Size::Word, R2, R6, PROTOCOL);
    asm.jump_if(Condition::NotEqual, R2, TCP, untouched);
    // Which namespace is it in, and is that one of ours?
    asm.call(Helper::NetnsCookie);
    asm.store(Size::Double, R10, NETNS, R0);
    asm.load_map(R1, maps.netns.fd());
    look_up(&mut asm, NETNS, untouched);
    // How many endpoints?
    for word in ALL_WORDS {
        load_address_word(&mut asm, R2, family, word);
        asm.store(Size::Word, R10, KEY + 4 * word, R2);
    }
    asm.load(Size::Word, R2, R6, PORT);
    asm.store(Size::Half, R10, KEY + OF_PORT, R2);
    asm.store_value(Size::Half, R10, KEY + OF_SLOT, 0);
    asm.load_map(R1, maps.endpoints.fd());
    look_up(&mut asm, KEY, untouched);
    asm.load(Size::Half, R7, R0, OF_SLOT);
    asm.jump_if(Condition::Equal, R7, 0, untouched);
    // One of them.
    asm.call(Helper::Random);
    asm.alu(Alu::Modulo, R0, R7);
    asm.alu_value(Alu::Add, R0, 1);
    asm.store(Size::Half, R10, KEY + OF_SLOT, R0);
    asm.load_map(R1, maps.endpoints.fd());
    look_up(&mut asm, KEY, untouched);
    asm.alu(Alu::Move, R7, R0);
    // Note both addresses for who asks later.
    storage(&mut asm, maps, 1);
    asm.jump_if(Condition::Equal, R0, 0, untouched);
    for offset in (0..OF_ENDPOINT).step_by(4) {
        asm.load(Size::Word, R2, R10, KEY + offset);
        asm.store(Size::Word, R0, offset, R2);
        asm.load(Size::Word, R2, R7, offset);
        asm.store(Size::Word, R0, OF_ENDPOINT + offset, R2);
    }
    rewrite(&mut asm, family, R7);
    asm.place(untouched);
    asm.alu_value(Alu::Move, R0, 1);
    asm.exit();
    asm
}

/// A socket whose peer is the endpoint that it got here tells the address that it asked for.
fn peer_name(family: Family, maps: &Maps) -> Asm {
    let mut asm = Asm::default();
    let untouched = asm.label();
    asm.alu(Alu::Move, R6, R1);
    storage(&mut asm, maps, 0);
    asm.jump_if(Condition::Equal, R0, 0, untouched);
    asm.alu(Alu::Move, R7, R0);
    for word in words(family) {
        load_address_word(&mut asm, R8, family, word);
        asm.load(Size::Word, R9, R7, OF_ENDPOINT + 4 * word);
        asm.jump_unless_equal(R8, R9, untouched);
    }
    asm.load(Size::Word, R8, R6, PORT);
    asm.load(Size::Half, R9, R7, OF_ENDPOINT + OF_PORT);
    asm.jump_unless_equal(R8, R9, untouched);
    rewrite(&mut asm, family, R7);
    asm.place(untouched);
    asm.alu_value(Alu::Move, R0, 1);
    asm.exit();
    asm
}

/// Looks up what lies on the stack, in the map that `R1` has; leaves where nothing is found.
fn look_up(asm: &mut Asm, key: i16, absent: Label) {
    asm.alu(Alu::Move, R2, R10);
    asm.alu_value(Alu::Add, R2, key.into());
    asm.call(Helper::MapLookup);
    asm.jump_if(Condition::Equal, R0, 0, absent);
}

/// What is noted of the socket.
fn storage(asm: &mut Asm, maps: &Maps, create: i32) {
    const { assert!(PEER == 2 * OF_ENDPOINT as usize) };
    asm.load_map(R1, maps.peers.fd());
    asm.load(Size::Double, R2, R6, SOCKET);
    asm.alu_value(Alu::Move, R3, 0);
    asm.alu_value(Alu::Move, R4, create);
    asm.call(Helper::StorageOfSocket);
}

/// A word of the context's address, written as an IPv6 one.
fn load_address_word(asm: &mut Asm, to: Reg, family: Family, word: i16) {
    match word {
        word if words(family).contains(&word) => asm.load(Size::Word, to, R6, field(family, word)),
        2 => asm.alu_value(Alu::Move, to, MAPPED),
        _ => asm.alu_value(Alu::Move, to, 0),
    }
}

/// Which words of an address the context has; the others of an IPv4 one are always the same.
fn words(family: Family) -> Range<i16> {
    match family {
        Family::V4 => 3..4,
        Family::V6 => 0..4,
    }
}

/// Where it has them.
fn field(family: Family, word: i16) -> i16 {
    match family {
        Family::V4 => ADDRESS4,
        Family::V6 => ADDRESS6 + 4 * word,
    }
}

/// The context's address and port become those at `from`.
fn rewrite(asm: &mut Asm, family: Family, from: Reg) {
    for word in words(family) {
        asm.load(Size::Word, R2, from, 4 * word);
        asm.store(Size::Word, R6, field(family, word), R2);
    }
    asm.load(Size::Half, R2, from, OF_PORT);
    asm.store(Size::Word, R6, PORT, R2);
}
