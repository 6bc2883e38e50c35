import Glibc
import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct SafetensorsFileTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func open(_ bytes: [UInt8]) throws -> SafetensorsFile {
    try SafetensorsFile(path: try folder.write("x.safetensors", bytes))
  }

  func refuses(
    _ message: String, _ header: String, _ data: [UInt8] = [], _ location: SourceLocation = #_sourceLocation
  ) {
    expectError(message, location, naming: folder.path + "/x.safetensors") {
      _ = try open(safetensors(header, data))
    }
  }

  @Test func readsWhatPythonWrote() throws {
    let file = try SafetensorsFile(path: golden("block_formats.safetensors"))
    #expect(file.metadata == ["made_by": "make_block_formats.py"])
    #expect(file.tensor("Q4_K.values")?.shape == [3, 256])
    #expect(file.tensor("encode.bf16")?.format == .uint16)
  }

  @Test func readsTensorsAndMetadata() throws {
    let data = GGUFBuilder.bytes([1, 2, 3, 4])
    let file = try open(
      safetensors(
        #"{"__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]}, "#
          + #""a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "#
          + #""empty": {"dtype": "F16", "shape": [3, 0], "data_offsets": [8, 8]}}   "#, data))
    #expect(file.tensors.map(\.name) == ["a", "empty", "b"])
    #expect(file.metadata == ["format": "pt"])
    #expect(try file.tensor("b")?.decoded() == [3, 4])
    #expect(try file.tensor("empty")?.decoded() == [])
    #expect(file.tensor("a")?.bytes.map(Array.init) == Array(data[..<8]))
    #expect(file.tensor("c") == nil)
    // No elements, though the other dimensions multiply to more than 64 bits.
    let none = try open(
      safetensors(#"{"a": {"dtype": "F32", "shape": [9223372036854775807, 4, 0], "data_offsets": [0, 0]}}"#))
    #expect(try none.tensor("a")?.decoded() == [])
    #expect(try open(safetensors("{}")).tensors.isEmpty)
  }

  @Test func theHeaderIsChecked() {
    expectError("it has only 3 bytes") { _ = try open([1, 2, 3]) }
    for length: UInt64 in [100_000_001, 1 << 62, .max] {
      expectError("its header would take \(length) bytes, at most 100000000 are allowed") {
        _ = try open(GGUFBuilder.bytes(length) + Array("{}".utf8))
      }
    }
    expectError("the header takes 10 bytes, but only 2 follow") {
      _ = try open(GGUFBuilder.bytes(UInt64(10)) + Array("{}".utf8))
    }
    expectError("its header does not start with '{'") { _ = try open(GGUFBuilder.bytes(UInt64(0))) }
    refuses("its header does not start with '{'", " {}")
    refuses("its header does not start with '{'", "[]")
    refuses("the header is damaged: line 1, column 2: the text ends", "{")
    refuses("the header is damaged: line 1, column 4: 'x' stands after the end", "{} x")
    refuses("the key \"a\" appears twice", #"{"a": 1, "a": 2}"#)
    refuses("more than 8 deep", #"{"a": "# + String(repeating: "[", count: 100_000))
    refuses("__metadata__ is an array, an object was expected", #"{"__metadata__": []}"#)
    refuses("__metadata__ holds an integer under 'a', only strings", #"{"__metadata__": {"a": 1}}"#)
  }

  @Test func tensorsAreChecked() {
    let data = [UInt8](repeating: 0, count: 16)
    func one(_ dtype: String, _ shape: String, _ offsets: String) -> String {
      #"{"a": {"dtype": \#(dtype), "shape": \#(shape), "data_offsets": \#(offsets)}}"#
    }
    refuses("tensor 'a' is an integer, an object was expected", #"{"a": 1}"#)
    refuses("tensor 'a' has no dtype", one("1", "[4]", "[0, 16]"), data)
    refuses("tensor 'a' has the unknown dtype 'F12'", one(#""F12""#, "[4]", "[0, 16]"), data)
    refuses("tensor 'a' has the unknown dtype 'Q4_0'", one(#""Q4_0""#, "[32]", "[0, 18]"), data)
    let shapes = ["4", "[-1]", "[1.5]", "[\"4\"]", "[18446744073709551616]", "null"]
    for shape in shapes { refuses("has no shape of whole numbers", one(#""F32""#, shape, "[0, 16]"), data) }
    for offsets in ["[0]", "[0, 16, 16]", "[16, 0]", "[-16, 0]", "[0, 1e30]", "{}"] {
      refuses("tensor 'a' has no data_offsets of two growing numbers", one(#""F32""#, "[4]", offsets), data)
    }
    for shape in ["[9223372036854775807, 2]", "[4294967296, 4294967296]", "[4611686018427387904, 4]"] {
      refuses("leaves 64 bits", one(#""F32""#, shape, "[0, 16]"), data)
    }
    refuses("takes 16 bytes, but its shape [5] and dtype F32 take 20", one(#""F32""#, "[5]", "[0, 16]"), data)
    refuses("tensor 'a' lies beyond the end of the file", one(#""F32""#, "[5]", "[0, 20]"), data)
    refuses(
      "tensor 'a' lies beyond the end of the file", one(#""I8""#, "[9223372036854775807]", "[0, 9223372036854775807]"),
      data)
    refuses("4 bytes before tensor 'a' belong to no tensor", one(#""F32""#, "[3]", "[4, 16]"), data)
    refuses("the last 4 bytes belong to no tensor", one(#""F32""#, "[3]", "[0, 12]"), data)
    refuses("the last 16 bytes belong to no tensor", "{}", data)
    refuses(
      "overlaps another",
      #"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "#
        + #""b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}"#, data)
  }
}

@Suite struct SafetensorsWriterTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test func writesEveryFormatInAnyOrder() throws {
    let path = folder.path + "/x.safetensors"
    let writer = try SafetensorsWriter(
      path: path,
      tensors: [
        SafetensorsEntry("byte", shape: [3], format: .uint8),
        SafetensorsEntry("half", shape: [2, 2], format: .float16),
        SafetensorsEntry("bf", shape: [2], format: .bfloat16),
        SafetensorsEntry("float", shape: [2, 1], format: .float32),
        SafetensorsEntry("long", shape: [1], format: .int64), SafetensorsEntry("int", shape: [1], format: .int32),
        SafetensorsEntry("none", shape: [0], format: .float32),
      ], metadata: [("format", "pt"), ("by", "é\"")])
    try writer.append([1.5, -2, 3], to: "half")
    try GGUFBuilder.bytes(Int64(-7)).withUnsafeBytes { try writer.append($0, to: "long") }
    try writer.append([1, 2], to: "float")
    try writer.append([4], to: "half")
    try [UInt8]([1, 2, 3]).withUnsafeBytes { try writer.append($0, to: "byte") }
    try writer.append([0.1, 1], to: "bf")
    expectError("tensor 'int' lacks 4 bytes") { try writer.finish() }
    try GGUFBuilder.bytes(Int32(9)).withUnsafeBytes { try writer.append($0, to: "int") }
    expectError("got more bytes than its shape has") { try writer.append([1], to: "float") }
    expectError("there is no tensor 'x'") { try writer.append([1], to: "x") }
    expectError("is I32 and takes no floats") { try writer.append([1], to: "int") }
    try writer.finish()
    let file = try SafetensorsFile(path: path)
    #expect(file.metadata == ["format": "pt", "by": "é\""])
    #expect(try file.tensor("half")?.decoded() == [1.5, -2, 3, 4])
    #expect(try file.tensor("bf")?.decoded() == [0.100097656, 1])
    #expect(try file.tensor("float")?.decoded() == [1, 2])
    #expect(file.tensor("long")?.bytes.map(Array.init) == GGUFBuilder.bytes(Int64(-7)))
    #expect(file.tensor("byte")?.bytes.map(Array.init) == [1, 2, 3])
    #expect(file.tensors.allSatisfy { $0.range.lowerBound % $0.format.block.byteCount == 0 })
  }

  @Test func refusesWhatCannotBeWritten() {
    let path = folder.path + "/x.safetensors"
    expectError("tensor 'a' cannot be written twice") {
      let a = SafetensorsEntry("a", shape: [1], format: .float32)
      _ = try SafetensorsWriter(path: path, tensors: [a, a])
    }
    expectError("tensor 'a' cannot be stored as Q4_0 [32]") {
      _ = try SafetensorsWriter(path: path, tensors: [SafetensorsEntry("a", shape: [32], format: .q4_0)])
    }
    expectError("tensor 'a' cannot be stored as F32") {
      _ = try SafetensorsWriter(
        path: path, tensors: [SafetensorsEntry("a", shape: [1 << 32, 1 << 32], format: .float32)])
    }
    expectError("the disk has too little space") {
      _ = try SafetensorsWriter(path: path, tensors: [SafetensorsEntry("a", shape: [1 << 58], format: .float32)])
    }
    expectError("no such file or folder") { _ = try SafetensorsWriter(path: "/nonexistent/x", tensors: []) }
    #expect(access(path, F_OK) != 0)
  }

  @Test func aLargeTensorIsConvertedInPieces() throws {
    let path = folder.path + "/x.safetensors"
    let values = (0..<1_000_000).map { Float($0 % 256) }
    let writer = try SafetensorsWriter(
      path: path, tensors: [SafetensorsEntry("a", shape: [1000, 1000], format: .bfloat16)])
    try writer.append(values, to: "a")
    try writer.finish()
    #expect(try SafetensorsFile(path: path).tensor("a")?.decoded() == values)
  }

  @Test func oneFileWhenItFits() throws {
    let writer = try ShardedSafetensorsWriter(
      folder: folder.path, tensors: [SafetensorsEntry("a", shape: [2], format: .float32)])
    try writer.append([1, 2], to: "a")
    try writer.finish()
    #expect(writer.fileNames == ["model.safetensors"])
    let checkpoint = try SafetensorsCheckpoint(folder: folder.path)
    #expect(try checkpoint.tensor("a")?.decoded() == [1, 2])
    #expect(access(folder.path + "/model.safetensors.index.json", F_OK) != 0)
  }

  @Test func shardsAndTheirIndex() throws {
    let names = ["c", "a", "b", "large", "d"]
    let entries = names.map { SafetensorsEntry($0, shape: $0 == "large" ? [100] : [4], format: .float32) }
    let writer = try ShardedSafetensorsWriter(folder: folder.path, tensors: entries, maximumShardByteCount: 32)
    for name in names.reversed() {
      try writer.append([Float](repeating: 1, count: name == "large" ? 100 : 4), to: name)
    }
    expectError("there is no tensor 'x'") { try writer.append([1], to: "x") }
    try writer.finish()
    #expect(writer.fileNames.first == "model-00001-of-00004.safetensors" && writer.fileNames.count == 4)
    let index = try readJSON(folder.path + "/model.safetensors.index.json")
    #expect(index["metadata"]?["total_size"] == 464)
    #expect(index["weight_map"]?.object?.keys == ["a", "b", "c", "d", "large"])
    #expect(index["weight_map"]?["a"] == "model-00001-of-00004.safetensors")
    #expect(index["weight_map"]?["large"] == "model-00003-of-00004.safetensors")
    let checkpoint = try SafetensorsCheckpoint(folder: folder.path)
    #expect(checkpoint.tensorNames == ["a", "b", "c", "d", "large"])
    #expect(checkpoint.files.count == 4)
    #expect(try checkpoint.tensor("large")?.decoded().count == 100)
  }
}

@Suite struct SafetensorsIndexTests {
  let folder: TemporaryFolder
  let shard = safetensors(
    #"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#, [0, 0, 0, 0])

  init() throws {
    folder = try TemporaryFolder()
    _ = try folder.write("s.safetensors", shard)
  }

  func refuses(_ message: String, index: String, _ location: SourceLocation = #_sourceLocation) throws {
    let path = try folder.write("model.safetensors.index.json", index)
    expectError(message, location, naming: path) { _ = try SafetensorsCheckpoint(folder: folder.path) }
  }

  @Test func theIndexIsChecked() throws {
    try refuses("line 1, column 2: the text ends", index: "{")
    try refuses("there is no object 'weight_map'", index: "{}")
    try refuses("tensor 'a' has an integer as its file", index: #"{"weight_map": {"a": 1}}"#)
    try refuses("the file 'x.safetensors' is missing", index: #"{"weight_map": {"a": "x.safetensors"}}"#)
    try refuses(
      "tensor 'b' should be in 's.safetensors', but is not", index: #"{"weight_map": {"b": "s.safetensors"}}"#)
    for name in ["../s.safetensors", "/etc/passwd", "x/../../s", "..", "", "a\\u0000b", "sub/s.safetensors"] {
      try refuses("is no plain name of a file in this folder", index: #"{"weight_map": {"a": "\#(name)"}}"#)
    }
  }

  @Test func twoFilesMayNotHoldOneTensor() throws {
    let file = safetensors(#"{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}"#, [1])
    let both = safetensors(
      #"{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "b": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}"#,
      [1, 2])
    _ = try folder.write("1.safetensors", file)
    _ = try folder.write("2.safetensors", both)
    let index = #"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#
    _ = try folder.write("model.safetensors.index.json", index)
    expectError("tensor 'a' is in two files, '1.safetensors' and '2.safetensors'") {
      _ = try SafetensorsCheckpoint(folder: folder.path)
    }
  }

  @Test func linksMayNotLeaveTheFolder() throws {
    let outside = try TemporaryFolder()
    _ = try outside.write("s.safetensors", shard)
    symlink(outside.path + "/s.safetensors", folder.path + "/link.safetensors")
    try refuses("is a link that leaves this folder", index: #"{"weight_map": {"a": "link.safetensors"}}"#)
  }

  @Test func linksOfTheHubsCacheAreFollowed() throws {
    let snapshot = folder.path + "/models--x/snapshots/1"
    for part in ["/models--x", "/models--x/blobs", "/models--x/snapshots", "/models--x/snapshots/1"] {
      mkdir(folder.path + part, 0o700)
    }
    _ = try folder.write("models--x/blobs/abc", shard)
    symlink("../../blobs/abc", snapshot + "/m.safetensors")
    _ = try folder.write(
      "models--x/snapshots/1/model.safetensors.index.json", #"{"weight_map": {"a": "m.safetensors"}}"#)
    #expect(try SafetensorsCheckpoint(folder: snapshot).tensor("a")?.decoded() == [0])
  }

  @Test func aFolderWithoutWeightsSaysWhatItHolds() throws {
    expectError("there is neither model.safetensors nor") { _ = try SafetensorsCheckpoint(folder: folder.path) }
    _ = try folder.write("pytorch_model.bin", "")
    expectError("holds pickled weights only") { _ = try SafetensorsCheckpoint(folder: folder.path) }
    _ = try folder.write("adapter_model.safetensors", "")
    expectError("holds an adapter") { _ = try SafetensorsCheckpoint(folder: folder.path) }
  }
}
