import CBlockFormats
import TestSupport
import Testing

@testable import ModelFiles

/// The golden file was written by Python's safetensors from random blocks that gguf-py decoded.
@Suite struct BlockFormatTests {
  let file: SafetensorsFile

  init() throws { file = try SafetensorsFile(path: golden("block_formats.safetensors")) }

  func tensor(_ name: String) throws -> StoredTensor { try #require(file.tensor(name)) }

  @Test(arguments: ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
  func decodesTheSameBitsAsGGUFPy(_ name: String) throws {
    let format = try #require(StorageFormat(rawValue: name))
    let (blocks, values) = (try tensor("\(name).blocks"), try tensor("\(name).values"))
    let count = values.count
    #expect(format.byteCount(shape: [count]) == blocks.count)
    let stored = StoredTensor(
      name: name, shape: [values.rowCount, values.rowLength], format: format, file: file.file, range: blocks.range)
    #expect(bits(try stored.decoded()) == bits(try values.decoded()))
    // Any single row alone, too.
    if stored.rowCount > 1 {
      var row = [Float](repeating: .nan, count: stored.rowLength)
      try stored.decode(rows: 1..<2, into: &row)
      #expect(bits(row) == bits(Array(try values.decoded()[stored.rowLength..<2 * stored.rowLength])))
    }
  }

  @Test func encodesTheSameBitsAsGGUFPyAndNumPy() throws {
    let floats = try tensor("encode.floats").decoded()
    for (name, encode) in [("bf16", sl_encode_bf16), ("f16", sl_encode_f16)] {
      var encoded = [UInt8](repeating: 0, count: 2 * floats.count)
      encode(floats, Int64(floats.count), &encoded)
      #expect(encoded == (try tensor("encode.\(name)").bytes).map(Array.init), "\(name)")
    }
  }

  @Test func everyHalfSurvivesTheWayThroughFloat() {
    let halves = [UInt16](0...UInt16.max)
    var floats = [Float](repeating: 0, count: halves.count)
    var back = [UInt16](repeating: 0, count: halves.count)
    sl_decode_f16(halves, Int64(halves.count), &floats)
    sl_encode_f16(floats, Int64(halves.count), &back)
    for half in halves {
      let value = floats[Int(half)]
      if half & 0x7FFF > 0x7C00 {
        #expect(value.isNaN && back[Int(half)] & 0x7FFF > 0x7C00)
      } else {
        #expect(back[Int(half)] == half)
        let (exponent, mantissa) = (Int(half >> 10 & 31), Float(half & 1023))
        let magnitude: Float =
          switch exponent {
          case 0: mantissa / 16_777_216
          case 31: .infinity
          default: (1 + mantissa / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
          }
        #expect(value == (half & 0x8000 != 0 ? -magnitude : magnitude))
      }
    }
  }

  @Test func decodesToBFloat16() throws {
    let floats = try tensor("encode.floats")
    var halves = [UInt16](repeating: 0, count: floats.count)
    let rows = StoredTensor(
      name: "x", shape: [floats.count / 4, 4], format: .float32, file: file.file, range: floats.range)
    try rows.decode(rows: 0..<rows.rowCount, intoBFloat16: &halves)
    #expect(halves.flatMap { GGUFBuilder.bytes($0) } == (try tensor("encode.bf16").bytes).map(Array.init))
  }

  @Test func whatCannotBeDecodedSaysSo() throws {
    let blocks = try tensor("Q4_0.blocks")
    let stored = StoredTensor(
      name: "w", shape: [blocks.count], format: .uint8, file: file.file, range: blocks.range)
    expectError("tensor 'w' is stored as U8, which cannot be decoded; supported are F64, F32, F16, BF16, Q4_0") {
      _ = try stored.decoded()
    }
  }

  @Test func rowsBeyondTheTensorAreRefused() throws {
    let values = try tensor("Q4_0.values")
    var row = [Float](repeating: 0, count: values.rowLength)
    expectError("has 18 rows, rows 18..<19 were asked for") { try values.decode(rows: 18..<19, into: &row) }
  }
}
