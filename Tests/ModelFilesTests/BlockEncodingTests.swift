import JSONValues
import TestSupport
import Testing

@testable import ModelFiles

/// The golden errors are llama.cpp's, by `Tests/Golden/quantization_errors.py`, on the same numbers.
@Suite struct BlockEncodingTests {
  static let formats = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
  static let count = 256 * 256

  /// The numbers of the golden script, by their kind.
  static let inputs: [String: [Float]] = {
    var random = SeededRandom(seed: 7)
    let fractions = (0..<12 * count).map { _ in Double(random.next() >> 40) / 16_777_216 }
    let normal = (0..<count).map { index in fractions[12 * index..<12 * index + 12].reduce(0, +) - 6 }
    return [
      "normal": normal.map { Float($0 * 0.02) }, "heavy": normal.map { Float($0 * $0 * $0 * 0.01) },
      "shifted": normal.map { Float($0 * 0.01 + 0.03) }, "uniform": fractions[..<count].map { Float($0 - 0.5) },
      "scaled": normal.enumerated().map { index, value in
        Float(value * [0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8][index / 32 % 8])
      },
    ]
  }()

  static func encode(_ values: [Float], as format: StorageFormat) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: values.count / format.block.length * format.block.byteCount)
    try values.withUnsafeBufferPointer { values in
      try bytes.withUnsafeMutableBytes { bytes in
        try format.encode(values, into: try #require(bytes.baseAddress), of: "w", path: "file")
      }
    }
    return bytes
  }

  /// The values that the decoder makes of the bytes, which gguf-py's decoder was compared with.
  static func decode(_ bytes: [UInt8], as format: StorageFormat) throws -> [Float] {
    let folder = try TemporaryFolder()
    let path = try folder.write("x", bytes)
    return try StoredTensor(
      name: "x", shape: [bytes.count / format.block.byteCount * format.block.length], format: format,
      file: MappedFile(path: path), range: 0..<bytes.count
    ).decoded()
  }

  static func error(_ values: [Float], _ decoded: [Float]) -> Double {
    var (difference, squares) = (0.0, 0.0)
    for (value, other) in zip(values, decoded) {
      difference += (Double(other) - Double(value)) * (Double(other) - Double(value))
      squares += Double(value) * Double(value)
    }
    return (difference / squares).squareRoot()
  }

  @Test(arguments: formats) func errorsAreNoLargerThanThoseOfLlamaCPP(_ name: String) throws {
    let format = try #require(StorageFormat(rawValue: name))
    let golden = try readJSON(golden("quantization_errors.json"))
    for (kind, values) in Self.inputs {
      let bytes = try Self.encode(values, as: format)
      let error = Self.error(values, try Self.decode(bytes, as: format))
      let limit = try #require(golden[name]?[kind]?.double)
      // The golden errors have six digits.
      #expect(error <= limit * 1.00001, "\(kind): \(error) for \(limit)")
      #expect(error > limit / 2, "\(kind): no encoding is so much better")
      if format == .q8_0 {
        let digest = bytes.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        #expect(try #require(golden["Q8_0 bytes"]?[kind]?.string) == String(digest, radix: 16).padded(16))
      }
    }
  }

  @Test(arguments: formats) func blocksOfOneValueAndOfNothingComeBack(_ name: String) throws {
    let format = try #require(StorageFormat(rawValue: name))
    // An f16 scale leaves 11 bits.
    for value: Float in [0, 1, -1, 0.123, -250, 65504, 1e-38] {
      let values = [Float](repeating: value, count: 512)
      let decoded = try Self.decode(Self.encode(values, as: format), as: format)
      #expect(decoded.allSatisfy { abs($0 - value) <= max(abs(value) / 500, 1e-7) }, "\(value): \(decoded[0])")
    }
    // One weight far from all others.
    var values = [Float](repeating: 0, count: 512)
    values[300] = -7
    let decoded = try Self.decode(Self.encode(values, as: format), as: format)
    #expect(abs(decoded[300] + 7) < 0.02 && decoded.enumerated().allSatisfy { $0 == 300 || abs($1) < 0.01 })
  }

  @Test(arguments: ["F32", "F16", "BF16"] + formats) func whatCannotBeHeldIsNamed(_ name: String) throws {
    let format = try #require(StorageFormat(rawValue: name))
    for value: Float in [.nan, .infinity, -.infinity] {
      var values = [Float](repeating: 0.5, count: 256)
      values[77] = value
      expectError("tensor 'w' has a value that \(name) cannot hold; choose another type") {
        _ = try Self.encode(values, as: format)
      }
    }
    let large: Float = format == .float32 ? .greatestFiniteMagnitude : format == .bfloat16 ? 3e38 : 65504
    let decoded = try Self.decode(Self.encode(.init(repeating: large, count: 256), as: format), as: format)
    #expect(decoded.allSatisfy { $0.isFinite && abs($0 / large - 1) < 0.01 })
    if format != .float32 {
      expectError("cannot hold") { _ = try Self.encode(.init(repeating: large * 1.2, count: 256), as: format) }
    }
  }

  @Test func aFormatThatIsNotWrittenSaysSo() {
    #expect(!StorageFormat.q2_K.isEncodable && StorageFormat.q4_K.isEncodable && StorageFormat.float32.isEncodable)
    expectError("takes no 256 floats") { _ = try Self.encode(.init(repeating: 0, count: 256), as: .q3_K) }
    expectError("takes no 48 floats") { _ = try Self.encode(.init(repeating: 0, count: 48), as: .q4_0) }
  }
}

extension String {
  fileprivate func padded(_ count: Int) -> String { String(repeating: "0", count: max(0, count - utf8.count)) + self }
}
