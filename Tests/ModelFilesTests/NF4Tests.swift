import CBlockFormats
import JSONValues
import Tensors
import TestSupport
import Testing

@testable import ModelFiles

/// The golden file was written by make_nf4.py from what bitsandbytes computes.
@Suite struct NF4Tests {
  static let cases = ["gauss", "outliers", "bf16", "ragged"]
  let file: SafetensorsFile

  init() throws { file = try SafetensorsFile(path: golden("nf4.safetensors")) }

  func floats(_ name: String) throws -> [Float] { try #require(file.tensor(name)).decoded() }
  func bytes(_ name: String) throws -> [UInt8] { Array(try #require(file.tensor(name)?.bytes)) }

  @Test(arguments: cases) func quantizesToTheSameBits(_ name: String) throws {
    let values = try floats("\(name).matrix")
    var encoder = NF4Encoder()
    var codes: [UInt8] = []
    // In pieces that are no whole blocks.
    for start in stride(from: 0, to: values.count, by: 1000) {
      values[start..<min(start + 1000, values.count)].withUnsafeBufferPointer { encoder.append($0) { codes += $0 } }
    }
    encoder.finish { codes += $0 }
    #expect(codes == (try bytes("\(name).codes")))
    #expect(bits(encoder.absmax) == bits(try floats("\(name).absmax")))
    let nested = DoubleQuantizedAbsmax(encoder.absmax)
    #expect(nested.codes == (try bytes("\(name).nested_codes")))
    #expect(bits(nested.scales) == bits(try floats("\(name).nested_absmax")))
    #expect([nested.offset] == (try floats("\(name).nested_offset")))
    #expect(bits(nested.decoded) == bits(try floats("\(name).nested_decoded")))
  }

  @Test(arguments: cases, [StorageFormat.float32, .bfloat16, .float16])
  func decodesToTheSameBits(_ name: String, _ format: StorageFormat) throws {
    let names: [StorageFormat: String] = [.float32: "float32", .bfloat16: "bfloat16", .float16: "float16"]
    guard let expected = file.tensor("\(name).decoded.\(names[format] ?? "")") else { return }
    let codes = try #require(file.tensor("\(name).codes")), absmax = try #require(file.tensor("\(name).absmax"))
    let storage = NF4Storage(
      codes: .init(file: codes.file, range: codes.range),
      absmax: .plain(.init(file: absmax.file, range: absmax.range)), blockLength: 64, originalFormat: format)
    let matrix = StoredTensor(
      name: "w", shape: expected.shape, format: .nf4, file: codes.file, range: codes.range, nf4: storage)
    #expect(bits(try matrix.decoded()) == bits(try expected.decoded()))
    // Rows that begin in the middle of a block or a byte.
    let cut = try #require(matrix.slice(1..<3, name: "v"))
    #expect(bits(try cut.decoded()) == bits(Array(try expected.decoded()[cut.rowLength..<3 * cut.rowLength])))
  }

  @Test func theMapIsBitsandbytes() throws {
    #expect(bits(NF4.dynamicMap) == bits(try floats("dynamic_map")))
  }

  @Test func whatLiesOnABorderTakesTheCodeBelow() {
    // bitsandbytes' kernels for GPUs have these numbers.
    let borders: [Float] = [
      -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
      -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
      0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
    ]
    let values = [1] + borders.flatMap { [$0, $0.nextUp, $0.nextDown] } + [Float](repeating: 0, count: 18)
    var (codes, absmax) = ([UInt8](repeating: 0, count: 32), [Float](repeating: 0, count: 1))
    sl_quantize_nf4(values, 64, &codes, &absmax)
    let nibbles = codes.flatMap { [$0 >> 4, $0 & 15] }
    for index in 0..<15 {
      #expect(Array(nibbles[1 + 3 * index..<4 + 3 * index]) == [UInt8(index), UInt8(index) + 1, UInt8(index)])
    }
    #expect(nibbles[0] == 15 && nibbles[63] == 7 && absmax == [1])
  }

  @Test func eachValueGoesToTheNearest() {
    var random = SeededRandom(seed: .random(in: 0...UInt64.max))
    let values = (0..<64 * 40).map { _ in Float.random(in: -3..<3, using: &random) }
    var (codes, absmax) = ([UInt8](repeating: 0, count: 64 * 20), [Float](repeating: 0, count: 40))
    sl_quantize_nf4(values, Int64(values.count), &codes, &absmax)
    for (index, value) in values.enumerated() {
      let scale = absmax[index / 64]
      #expect(values[index / 64 * 64..<index / 64 * 64 + 64].allSatisfy { abs($0) <= scale })
      let code = Int(codes[index / 2] >> (index % 2 == 0 ? 4 : 0) & 15)
      let distances = NF4.values.map { abs(Double($0) * Double(scale) - Double(value)) }
      #expect(distances[code] <= (distances.min() ?? 0) + 1e-6)
    }
  }

  // MARK: Checkpoints

  /// A folder with one matrix [4, 64] in NF4, whose tensors `change` may spoil.
  func folder(
    state: String = #"{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4,64],"nested_blocksize":256,"#
      + #""nested_dtype":"float32","nested_offset":0.5}"#,
    change: (inout [(String, String, [Int], [UInt8])]) -> Void = { _ in }
  ) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    let name = "model.layers.0.mlp.down_proj.weight"
    var tensors: [(String, String, [Int], [UInt8])] = [
      (name + ".nested_absmax", "F32", [1], GGUFBuilder.bytes([0.25])),
      (name + ".nested_quant_map", "F32", [256], GGUFBuilder.bytes(NF4.dynamicMap)),
      (name + ".quant_map", "F32", [16], GGUFBuilder.bytes(NF4.values)),
      (name, "U8", [128, 1], (0..<128).map { UInt8($0) }),
      (name + ".absmax", "U8", [4], [0, 127, 200, 255]),
      (name + ".quant_state.bitsandbytes__nf4", "U8", [state.utf8.count], Array(state.utf8)),
    ]
    change(&tensors)
    var (header, data) = (JSONObject(), [UInt8]())
    for (name, type, shape, bytes) in tensors {
      header[name] = [
        "dtype": .string(type), "shape": .array(shape.map { .integer($0) }),
        "data_offsets": [.integer(data.count), .integer(data.count + bytes.count)],
      ]
      data += bytes
    }
    _ = try folder.write("config.json", TinyModel().text)
    _ = try folder.write("model.safetensors", safetensors(JSONValue.object(header).serialized(), data))
    return folder
  }

  @Test func partsComeTogether() throws {
    let folder = try folder()
    let checkpoint = try Checkpoint.open(path: folder.path)
    #expect(checkpoint.tensorNames == ["model.layers.0.mlp.down_proj.weight"])
    let matrix = try checkpoint.tensor("model.layers.0.mlp.down_proj.weight", shape: [4, 64])
    #expect(matrix.format == .nf4 && matrix.bytes == nil && matrix.nf4?.originalFormat == .bfloat16)
    let values = try matrix.decoded()
    // Code 0 is -1, the map's last value 1: absmax 0.25 · 1 + 0.5 in the last row; its first byte is 96.
    #expect(values[3 * 64] == Float(-0.091_050_04 * 0.75).roundedToBFloat16)
    // Byte 32 is 0x20 and the second row's absmax the offset alone.
    #expect(values[64] == Float(-0.525_073_05 * 0.5).roundedToBFloat16)
    #expect(values[65] == Float(-0.5))
  }

  @Test func codesMayBeStoredAsAnotherType() throws {
    let folder = try folder { $0[3] = ($0[3].0, "BF16", [64, 1], $0[3].3) }
    #expect(try Checkpoint.open(path: folder.path).tensor("model.layers.0.mlp.down_proj.weight").shape == [4, 64])
  }

  @Test(arguments: [
    ("truncated codes", "needs 128 bytes"), ("short absmax", "needs 4 bytes of U8"), ("long nested", "needs 4 bytes"),
    ("no map", "nested_quant_map' is missing"), ("no state", "is missing"), ("fp4", "stored as FP4"),
    ("another map", "quant_map that is not NF4's"), ("nan", "values that are no numbers"),
    ("absmax fp32", "needs 4 bytes of U8"),
  ])
  func damagedPartsAreRefused(_ damage: String, _ message: String) throws {
    let folder = try folder { tensors in
      switch damage {
      case "truncated codes": tensors[3] = (tensors[3].0, "U8", [127, 1], Array(tensors[3].3.dropLast()))
      case "short absmax": tensors[4] = (tensors[4].0, "U8", [3], [1, 2, 3])
      case "long nested": tensors[0] = (tensors[0].0, "F32", [2], GGUFBuilder.bytes([1, 2]))
      case "no map": tensors.remove(at: 1)
      case "no state": tensors.removeLast()
      case "fp4": tensors[5].0 = "model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__fp4"
      case "another map": tensors[2].3 = GGUFBuilder.bytes([Float](repeating: 1, count: 16))
      case "nan": tensors[1].3 = GGUFBuilder.bytes([Float](repeating: .nan, count: 256))
      default: tensors[4] = (tensors[4].0, "F32", [4], GGUFBuilder.bytes([1, 2, 3, 4]))
      }
    }
    expectError(message) { _ = try Checkpoint.open(path: folder.path) }
  }

  @Test(arguments: [
    (#"{}"#, "no shape"), ("[", "is damaged"), (#"{"quant_type":"fp4"}"#, "says quant_type 'fp4'"),
    (#"{"shape":[4,-64],"blocksize":64,"dtype":"bfloat16"}"#, "no shape of positive"),
    (#"{"shape":[4611686018427387904,64],"blocksize":64,"dtype":"bfloat16"}"#, "leaves 64 bits"),
    (#"{"shape":[4611686018427387904],"blocksize":64,"dtype":"bfloat16"}"#, "needs 2305843009213693952 bytes"),
    (#"{"shape":[4,64],"blocksize":0,"dtype":"bfloat16"}"#, "no blocksize"),
    (#"{"shape":[4,64],"blocksize":64,"dtype":"int8"}"#, "no dtype"),
    (#"{"shape":[4,64],"blocksize":64,"dtype":"bfloat16","nested_offset":"x"}"#, "no number"),
    (#"{"shape":[4,64],"blocksize":64,"dtype":"bfloat16","nested_offset":1e300,"nested_blocksize":256}"#, "no number"),
    (
      #"{"shape":[4,64],"blocksize":64,"dtype":"bfloat16","nested_offset":1,"nested_blocksize":-1}"#, "nested_blocksize"
    ),
    (#"{"shape":[4,64],"blocksize":64,"dtype":"bfloat16","nested_offset":1,"nested_blocksize":1}"#, "needs 16 bytes"),
    (#"{"shape":[4,64],"blocksize":64,"dtype":"bfloat16"}"#, "knows of no double quantization"),
  ])
  func damagedStatesAreRefused(_ state: String, _ message: String) throws {
    let folder = try folder(state: state)
    expectError(message) { _ = try Checkpoint.open(path: folder.path) }
  }

  @Test func mutatedStatesNeverTrap() throws {
    let original = Array(
      #"{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4,64],"nested_blocksize":256,"nested_offset":0.5}"#
        .utf8)
    var random = SeededRandom(seed: .random(in: 0...UInt64.max))
    for _ in 0..<300 {
      var state = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        state[Int.random(in: 0..<state.count, using: &random)] = UInt8.random(in: 0x20...0x7E, using: &random)
      }
      let folder = try folder(state: String(decoding: state, as: UTF8.self))
      guard let checkpoint = try? Checkpoint.open(path: folder.path) else { continue }
      _ = try checkpoint.tensor("model.layers.0.mlp.down_proj.weight").decoded()
    }
  }
}

extension Float {
  /// Rounded to bf16, ties to even.
  fileprivate var roundedToBFloat16: Float {
    Float(bitPattern: (bitPattern + 0x7FFF + (bitPattern >> 16 & 1)) & 0xFFFF_0000)
  }
}
