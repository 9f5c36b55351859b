//! Assembles instructions; jumps go to labels. Pure.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `R0` is a call's result, `R1` to `R5` its arguments (lost in it), `R6` to `R9` stay, `R10` is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// The kernel's functions that programs may call, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    MapLookup = 1,
    Random = 7,
    StorageOfSocket = 107,
    NetnsCookie = 122,
}

/// Of a load or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Add = 0x00,
    Modulo = 0x90,
    Move = 0xb0,
}

/// When a jump is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Equal = 0x10,
    NotEqual = 0x50,
}

/// A place in the program, made by [`Asm::label`] and set once by [`Asm::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

const CLASS_LOAD_DOUBLE: u8 = 0x18;
const CLASS_LOAD: u8 = 0x61;
const CLASS_STORE_IMMEDIATE: u8 = 0x62;
const CLASS_STORE: u8 = 0x63;
const CLASS_JUMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const OF_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The source register of a wide load whose value is a map's descriptor.
const PSEUDO_MAP: u8 = 1;

/// A program being written.
#[derive(Debug, Default)]
pub struct Asm {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    /// Instruction and the label that it jumps to.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(CLASS_LOAD | size as u8, to, from as u8, offset, 0);
    }

    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.push(CLASS_STORE | size as u8, to, from as u8, offset, 0);
    }

    pub fn store_value(&mut self, size: Size, to: Reg, offset: i16, value: i32) {
        self.push(CLASS_STORE_IMMEDIATE | size as u8, to, 0, offset, value);
    }

    pub fn alu(&mut self, operation: Alu, to: Reg, from: Reg) {
        self.push(CLASS_ALU64 | OF_REGISTER | operation as u8, to, from as u8, 0, 0);
    }

    pub fn alu_value(&mut self, operation: Alu, to: Reg, value: i32) {
        self.push(CLASS_ALU64 | operation as u8, to, 0, 0, value);
    }

    /// The map is to be open until the program is loaded, which names it by its descriptor.
    pub fn load_map(&mut self, to: Reg, map: BorrowedFd<'_>) {
        self.push(CLASS_LOAD_DOUBLE, to, PSEUDO_MAP, 0, map.as_raw_fd());
        self.code.push(0);
    }

    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, 0, 0, helper as i32);
    }

    pub fn jump_if(&mut self, condition: Condition, left: Reg, right: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | condition as u8, left, 0, 0, right);
    }

    pub fn jump_unless_equal(&mut self, left: Reg, right: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | OF_REGISTER | Condition::NotEqual as u8, left, right as u8, 0, 0);
    }

    /// Ends the program with what is in `R0`.
    pub fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// The instructions, jumps resolved.
    ///
    /// # Panics
    /// When a label that something jumps to was not placed, or is too far away: a mistake in the program's text.
    pub fn finish(mut self) -> Vec<u64> {
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label.0].expect("every label is placed");
            let distance = target as isize - at as isize - 1;
            let distance = i16::try_from(distance).expect("programs here are short");
            self.code[at] |= u64::from(distance as u16) << 16;
        }
        self.code
    }

    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, value: i32) {
        let registers = from << 4 | to as u8;
        let fields = [code, registers].into_iter().chain(offset.to_le_bytes()).chain(value.to_le_bytes());
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        self.code.push(u64::from_le_bytes(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_as_the_kernel_reads_them() {
        let mut asm = Asm::default();
        let end = asm.label();
        asm.load(Size::Word, Reg::R2, Reg::R6, 36);
        asm.jump_if(Condition::NotEqual, Reg::R2, 6, end);
        asm.store(Size::Half, Reg::R10, -12, Reg::R2);
        asm.alu_value(Alu::Add, Reg::R2, -8);
        asm.place(end);
        asm.alu_value(Alu::Move, Reg::R0, 1);
        asm.exit();
        let text = |code: u64| code.to_le_bytes().map(|byte| format!("{byte:02x}")).join(" ");
        assert_eq!(
            asm.finish().into_iter().map(text).collect::<Vec<_>>(),
            [
                "61 62 24 00 00 00 00 00", // r2 = *(u32 *)(r6 + 36)
                "55 02 02 00 06 00 00 00", // if r2 != 6 goto +2
                "6b 2a f4 ff 00 00 00 00", // *(u16 *)(r10 - 12) = r2
                "07 02 00 00 f8 ff ff ff", // r2 += -8
                "b7 00 00 00 01 00 00 00", // r0 = 1
                "95 00 00 00 00 00 00 00", // exit
            ]
        );
    }

    #[test]
    #[should_panic(expected = "every label is placed")]
    fn a_jump_to_nowhere_is_a_mistake() {
        let mut asm = Asm::default();
        let nowhere = asm.label();
        asm.jump_if(Condition::Equal, Reg::R0, 0, nowhere);
        asm.finish();
    }
}
