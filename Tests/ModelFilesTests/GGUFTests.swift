import TestSupport
import Testing

@testable import ModelFiles

@Suite struct GGUFTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func open(_ bytes: [UInt8]) throws -> GGUFFile { try GGUFFile(path: try folder.write("x.gguf", bytes)) }

  func refuses(
    _ message: String, _ location: SourceLocation = #_sourceLocation, _ build: (inout GGUFBuilder) -> Void
  ) {
    var builder = GGUFBuilder()
    build(&builder)
    let bytes = builder.build()
    expectError(message, location, naming: folder.path + "/x.gguf") { _ = try open(bytes) }
  }

  @Test(arguments: [2, 3] as [UInt32]) func readsEveryTypeOfMetadata(_ version: UInt32) throws {
    typealias B = GGUFBuilder
    var builder = GGUFBuilder()
    builder.version = version
    builder.add("u8", type: 0, [200])
    builder.add("i8", type: 1, [0xFE])
    builder.add("u16", type: 2, B.bytes(UInt16(60000)))
    builder.add("i16", type: 3, B.bytes(Int16(-3)))
    builder.add("u32", type: 4, B.bytes(UInt32.max))
    builder.add("i32", type: 5, B.bytes(Int32.min))
    builder.add("f32", Float(1e-5))
    builder.add("bool", true)
    builder.add("string", "é\u{0}x")
    builder.add("u64", type: 10, B.bytes(UInt64.max))
    builder.add("i64", type: 11, B.bytes(Int64.min))
    builder.add("f64", type: 12, B.bytes(Double.pi.bitPattern))
    builder.add("strings", ["a", "", "ü"])
    builder.add("floats", type: 9, B.bytes(UInt32(6)) + B.bytes(UInt64(2)) + B.bytes([1.5, -2]))
    builder.add("bools", type: 9, B.bytes(UInt32(7)) + B.bytes(UInt64(2)) + [0, 1])
    builder.add("none", type: 9, B.bytes(UInt32(5)) + B.bytes(UInt64(0)))
    let inner = B.bytes(UInt32(5)) + B.bytes(UInt64(2)) + B.bytes(Int32(7)) + B.bytes(Int32(-8))
    builder.add("nested", type: 9, B.bytes(UInt32(9)) + B.bytes(UInt64(2)) + inner + inner)
    builder.add("not UTF-8", type: 8, B.bytes(UInt64(2)) + [0x61, 0xFF])
    let gguf = try open(builder.build())
    #expect(gguf.version == Int(version))
    let m = gguf.metadata
    #expect(m.entries.count == 18 && m.entries[0].key == "u8" && m.entries[17].key == "not UTF-8")
    #expect(m["u8"] == .uint8(200) && m["i8"] == .int8(-2) && m["u16"] == .uint16(60000) && m["i16"] == .int16(-3))
    #expect(m["u32"] == .uint32(.max) && m["i32"] == .int32(.min) && m["u64"] == .uint64(.max))
    #expect(m["i64"] == .int64(.min) && m["f64"] == .float64(.pi) && m["bool"] == .bool(true))
    #expect(try m.double("f32") == 1e-5)
    #expect(try m.string("string") == "é\u{0}x")
    #expect(try m.strings("strings") == ["a", "", "ü"])
    #expect(try m.floats("floats") == [1.5, -2])
    #expect(m["bools"] == .array(.bool([false, true])))
    #expect(try m.integers("none") == [])
    #expect(m["nested"] == .array(.array([.int32([7, -8]), .int32([7, -8])])))
    #expect(try m.string("not UTF-8") == "a\u{FFFD}")
    #expect(try m.integer("i8") == -2)
    #expect(try m.integer("absent") == nil)
    expectError("the metadata key 'u64' is of type a too large uint64, an integer was expected") {
      _ = try m.integer("u64")
    }
    expectError("the metadata key 'string' is of type string, an array of floats was expected") {
      _ = try m.floats("string")
    }
    expectError("the metadata key 'strings' is of type array of string, an array of floats was expected") {
      _ = try m.floats("strings")
    }
  }

  @Test func readsTensors() throws {
    var builder = GGUFBuilder()
    builder.alignment = 64
    builder.add("general.alignment", UInt32(64))
    builder.addTensor("a", shape: [2, 3], [1, 2, 3, 4, 5, 6])
    builder.addTensor("b", [32, 2], type: 8, [UInt8](repeating: 0, count: 68))
    builder.addTensor("c", [256], type: 23, [UInt8](repeating: 1, count: 136))
    builder.addTensor("scalar", [], type: 0, GGUFBuilder.bytes([9]))
    let gguf = try open(builder.build())
    #expect(gguf.alignment == 64)
    #expect(gguf.tensors.map(\.name) == ["a", "b", "c", "scalar"])
    let a = try #require(gguf.tensor("a"))
    #expect(a.shape == [2, 3] && a.format == .float32 && a.range.lowerBound % 64 == 0)
    #expect(try a.decoded() == [1, 2, 3, 4, 5, 6])
    #expect(gguf.tensor("b")?.shape == [2, 32])
    #expect(try gguf.tensor("scalar")?.decoded() == [9])
    // A format that exists but is not decoded does not keep the file from opening.
    let c = try #require(gguf.tensor("c"))
    expectError("tensor 'c' is stored as IQ4_XS, which cannot be decoded") { _ = try c.decoded() }
    #expect(gguf.tensor("d") == nil)
  }

  @Test func anEmptyFileOfHeadersIsFine() throws {
    let gguf = try open(GGUFBuilder().build())
    #expect(gguf.tensors.isEmpty && gguf.metadata.entries.isEmpty)
  }

  @Test func refusesWhatIsNoGGUF() {
    refuses("this is no GGUF: it does not start with 'GGUF'") { $0.magic = Array("PK\u{3}\u{4}".utf8) }
    refuses("a GGML file from before GGUF") { $0.magic = Array("tjgg".utf8) }
    refuses("this is GGUF version 1; supported are 2 and 3") { $0.version = 1 }
    refuses("this is GGUF version 4; supported are 2 and 3") { $0.version = 4 }
    refuses("this GGUF is big-endian; convert it to little-endian") { $0.version = UInt32(3).byteSwapped }
    expectError("this is no GGUF: it has only 0 bytes") { _ = try open([]) }
  }

  @Test func countsAreBoundedByTheBytesThatRemain() {
    for count: UInt64 in [1, 1000, 1 << 31, 1 << 60, UInt64(Int64.max), .max] {
      refuses("the file promises \(count) tensors, but only") { $0.promisedTensors = count }
      refuses("the file promises \(count) metadata entries, but only") { $0.promisedEntries = count }
    }
    for (type, least) in [(0, 1), (4, 4), (6, 4), (7, 1), (8, 8), (9, 12), (12, 8)] as [(UInt32, UInt64)] {
      for count: UInt64 in [100 / least + 1, 1 << 61, 1 << 62, .max] {
        refuses("the file promises \(count) elements in metadata key 'a', but only 100 bytes remain") {
          $0.add(
            "a", type: 9, GGUFBuilder.bytes(type) + GGUFBuilder.bytes(count) + [UInt8](repeating: 0, count: 100))
        }
      }
    }
    for length: UInt64 in [4, 1 << 40, UInt64(Int64.max), .max] {
      refuses("the value of metadata key 'a' promises \(length) bytes, but only 3 remain") {
        $0.add("a", type: 8, GGUFBuilder.bytes(length) + [1, 2, 3])
      }
    }
  }

  @Test func metadataIsChecked() {
    refuses("the metadata key 'a' has the type 13, which does not exist") {
      $0.add("a", type: 13, [UInt8](repeating: 0, count: 8))
    }
    refuses("the array of metadata key 'a' has elements of type 99, which does not exist") {
      $0.add("a", type: 9, GGUFBuilder.bytes(UInt32(99)) + GGUFBuilder.bytes(UInt64(0)))
    }
    refuses("the value of metadata key 'a' holds the bool 2, only 0 and 1 are allowed") { $0.add("a", type: 7, [2]) }
    refuses("the metadata key 'a' appears twice") {
      $0.add("a", UInt32(1))
      $0.add("a", "x")
    }
    refuses("the key of metadata entry 0 is empty") { $0.add("", UInt32(1)) }
    refuses("the arrays of metadata key 'a' lie more than 8 deep") {
      let level = GGUFBuilder.bytes(UInt32(9)) + GGUFBuilder.bytes(UInt64(1))
      $0.add("a", type: 9, [[UInt8]](repeating: level, count: 5000).flatMap(\.self))
    }
  }

  @Test func alignmentIsChecked() {
    refuses("general.alignment is 0, it must be a power of two") { $0.add("general.alignment", UInt32(0)) }
    refuses("general.alignment is 48, it must be a power of two") { $0.add("general.alignment", UInt32(48)) }
    refuses("'general.alignment' is of type string, uint32 was expected") { $0.add("general.alignment", "32") }
    refuses("'general.alignment' is of type uint64, uint32 was expected") {
      $0.add("general.alignment", type: 10, GGUFBuilder.bytes(UInt64(32)))
    }
    refuses("tensor 'a' lies beyond the end of the file") {
      $0.add("general.alignment", UInt32(1 << 31))
      $0.addTensor("a", shape: [1], [1])
    }
  }

  @Test func tensorsAreChecked() {
    let block = [UInt8](repeating: 0, count: 64)
    refuses("tensor 'a' appears twice") {
      $0.addTensor("a", shape: [1], [1])
      $0.addTensor("a", shape: [1], [1])
    }
    refuses("tensor 'a' has 5 dimensions, at most 4 are allowed") {
      $0.addTensor("a", [1, 1, 1, 1, 1], type: 0, block)
    }
    refuses("dimensions, at most 4 are allowed") {
      $0.addTensor("a", [UInt64](repeating: 1, count: 100), type: 0, block)
    }
    refuses("tensor 'a' has a dimension of 0") { $0.addTensor("a", [4, 0], type: 0, block) }
    refuses("tensor 'a' has a dimension of 9223372036854775808") { $0.addTensor("a", [1 << 63], type: 0, block) }
    // Products that wrap to something small, or to a negative number.
    refuses("the size of tensor 'a', [4294967296, 4294967296], leaves 64 bits") {
      $0.addTensor("a", [1 << 32, 1 << 32], type: 0, block)
    }
    refuses("leaves 64 bits") { $0.addTensor("a", [1 << 62, 2], type: 0, block) }
    refuses("leaves 64 bits") { $0.addTensor("a", [1 << 61], type: 0, block) }
    refuses("leaves 64 bits") { $0.addTensor("a", [1 << 16, 1 << 16, 1 << 16, 1 << 16], type: 24, block) }
    refuses("tensor 'a' is of type 99, which does not exist") { $0.addTensor("a", [1], type: 99, block) }
    refuses("tensor 'a' is of type 31 (Q4_0_4_4), which llama.cpp no longer has") {
      $0.addTensor("a", [1], type: 31, block)
    }
    refuses("the rows of tensor 'a' have 40 elements, no multiple of the 32 in a block of Q8_0") {
      $0.addTensor("a", [40], type: 8, block)
    }
    refuses("tensor 'a' starts at 8, no multiple of the alignment 32") {
      $0.addTensor("a", [4], type: 0, block, offset: 8)
    }
    refuses("tensor 'a' lies beyond the end of the file") { $0.addTensor("a", [17], type: 0, block) }
    for offset: UInt64 in [64, 1 << 62, UInt64(Int64.max) - 31, 1 << 63, .max - 31] {
      refuses("tensor 'a' lies beyond the end of the file") { $0.addTensor("a", [4], type: 0, block, offset: offset) }
    }
    refuses("tensors 'a' and 'b' overlap") {
      $0.addTensor("a", [16], type: 0, block)
      $0.addTensor("b", [16], type: 0, block, offset: 32)
    }
    refuses("tensors 'a' and 'b' overlap") {
      $0.addTensor("a", [16], type: 0, block)
      $0.addTensor("b", [16], type: 0, block, offset: 0)
    }
    refuses("the name of tensor 0 is not UTF-8") {
      $0.promisedTensors = 1
      $0.add("a", type: 0, [0] + GGUFBuilder.bytes(UInt64(1)) + [0xFF] + [UInt8](repeating: 0, count: 40))
      $0.promisedEntries = 1
    }
  }
}
