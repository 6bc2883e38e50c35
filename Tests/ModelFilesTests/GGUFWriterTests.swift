import Glibc
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct GGUFWriterTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  static let metadata: [(key: String, value: GGUFValue)] = [
    ("general.architecture", .string("llama")), ("a", .uint32(7)), ("b", .float32(0.5)), ("c", .bool(true)),
    ("d", .array(.string(["x", "", "é"]))), ("e", .array(.int32([-1, 2]))), ("f", .array(.float32([1, -2]))),
    ("g", .int64(-5)), ("h", .array(.array([.uint8([1]), .uint8([2, 3])]))), ("i", .float64(0.1)),
  ]

  static func append(_ bytes: [UInt8], to name: String, of writer: GGUFWriter) throws {
    try bytes.withUnsafeBytes { try writer.append($0, to: name) }
  }

  @Test func whatIsWrittenIsReadAgain() throws {
    let path = "\(folder.path)/x.gguf"
    let blocks = [UInt8](0..<34) + [UInt8](34..<68) + [UInt8](68..<102)
    let writer = try GGUFWriter(
      path: path, metadata: Self.metadata,
      tensors: [
        GGUFEntry("a.weight", shape: [3, 32], format: .q8_0), GGUFEntry("b", shape: [2], format: .float32),
        GGUFEntry("c", shape: [2, 3], format: .float16),
      ])
    // In another order, and in pieces.
    try Self.append(Array(0..<12), to: "c", of: writer)
    try Self.append(Array(blocks[..<40]), to: "a.weight", of: writer)
    try Self.append(GGUFBuilder.bytes([1, 2]), to: "b", of: writer)
    try Self.append(Array(blocks[40...]), to: "a.weight", of: writer)
    #expect(access(path, F_OK) != 0, "nothing before the end")
    try writer.finish()

    let file = try GGUFFile(path: path)
    #expect(file.version == 3 && file.alignment == 32)
    #expect(file.metadata.entries.map(\.key) == Self.metadata.map(\.key))
    #expect(file.metadata.entries.map(\.value) == Self.metadata.map(\.value))
    #expect(file.tensors.map(\.name) == ["a.weight", "b", "c"])
    #expect(file.tensors.map(\.shape) == [[3, 32], [2], [2, 3]])
    #expect(file.tensors.map(\.format) == [.q8_0, .float32, .float16])
    #expect(file.tensor("a.weight")?.bytes.map(Array.init) == blocks)
    #expect(try file.tensor("b")?.decoded() == [1, 2])
    #expect(file.tensors.allSatisfy { $0.range.lowerBound % 32 == 0 })
    #expect(file.file.bytes.count % 32 == 0, "llama.cpp pads the last tensor too")
  }

  @Test func whatIsNotWholeDoesNotAppear() throws {
    let path = "\(folder.path)/x.gguf"
    let entry = GGUFEntry("a", shape: [4], format: .float32)
    let writer = try GGUFWriter(path: path, metadata: [], tensors: [entry])
    try Self.append([1, 2, 3, 4], to: "a", of: writer)
    expectError("tensor 'a' lacks 12 bytes", naming: path) { try writer.finish() }
    expectError("tensor 'a' got more bytes than its shape has") { try Self.append(.init(0..<13), to: "a", of: writer) }
    expectError("there is no tensor 'b'") { try Self.append([1], to: "b", of: writer) }
    _ = consume writer
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
    for (bad, message) in [
      ([GGUFEntry("a", shape: [33], format: .q4_0)], "tensor 'a' cannot be stored as Q4_0 [33]"),
      ([GGUFEntry("a", shape: [2], format: .bool)], "cannot be stored as BOOL"),
      ([GGUFEntry("a", shape: [1, 1, 1, 1, 1], format: .float32)], "cannot be stored"),
      ([GGUFEntry(String(repeating: "a", count: 64), shape: [1], format: .float32)], "cannot be stored"),
      ([GGUFEntry("a", shape: [Int.max, 8], format: .float32)], "cannot be stored"),
      ([entry, entry], "tensor 'a' cannot be written twice"),
      ([GGUFEntry("a", shape: [1 << 55], format: .float32)], "the disk has too little space"),
    ] {
      expectError(message) { _ = try GGUFWriter(path: path, metadata: [], tensors: bad) }
    }
    #expect(AtomicFolder.names(in: folder.path).isEmpty)
  }

  @Test func sumsThatWrapAreRefused() {
    let large = GGUFEntry("a", shape: [Int.max / 4], format: .float32)
    expectError("the tensors take more than 64 bits can count") {
      _ = try GGUFWriter(
        path: "\(folder.path)/x.gguf", metadata: [],
        tensors: [large, GGUFEntry("b", shape: [Int.max / 4], format: .float32)])
    }
  }
}
