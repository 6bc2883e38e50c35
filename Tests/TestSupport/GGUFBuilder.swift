/// Writes small GGUF files for tests, right or wrong in any chosen place.
public struct GGUFBuilder {
  /// The first four bytes.
  public var magic = Array("GGUF".utf8)
  /// The version.
  public var version: UInt32 = 3
  /// The count of tensors that the header promises; `nil` is the truth.
  public var promisedTensors: UInt64?
  /// The count of metadata entries that the header promises; `nil` is the truth.
  public var promisedEntries: UInt64?
  /// The multiple at which tensors start.
  public var alignment = 32
  private var entries: [[UInt8]] = []
  private var tensors: [Tensor] = []

  private struct Tensor {
    let name: [UInt8]
    let dimensions: [UInt64]
    let type: UInt32
    let bytes: [UInt8]
    let offset: UInt64?
  }

  /// Makes an empty file.
  public init() {}

  /// Little-endian bytes of an integer.
  public static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  /// Little-endian bytes of floats.
  public static func bytes(_ values: [Float]) -> [UInt8] { values.flatMap { bytes($0.bitPattern) } }

  /// A string as GGUF stores it: its length, its bytes.
  public static func string(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + Array(text.utf8) }

  /// Adds an entry: the number of its type and the bytes of its value.
  public mutating func add(_ key: String, type: UInt32, _ value: [UInt8]) {
    entries.append(Self.string(key) + Self.bytes(type) + value)
  }

  /// Adds an integer of 32 bits.
  public mutating func add(_ key: String, _ value: UInt32) { add(key, type: 4, Self.bytes(value)) }

  /// Adds a float.
  public mutating func add(_ key: String, _ value: Float) { add(key, type: 6, Self.bytes(value.bitPattern)) }

  /// Adds a truth value.
  public mutating func add(_ key: String, _ value: Bool) { add(key, type: 7, [value ? 1 : 0]) }

  /// Adds a text.
  public mutating func add(_ key: String, _ value: String) { add(key, type: 8, Self.string(value)) }

  /// Adds a list of texts.
  public mutating func add(_ key: String, _ values: [String]) {
    add(key, type: 9, Self.bytes(UInt32(8)) + Self.bytes(UInt64(values.count)) + values.flatMap(Self.string))
  }

  /// Adds a tensor of any type; its dimensions run fastest first.
  ///
  /// Without an offset it is laid behind the others.
  public mutating func addTensor(
    _ name: String, _ dimensions: [UInt64], type: UInt32, _ bytes: [UInt8], offset: UInt64? = nil
  ) {
    tensors.append(
      Tensor(name: Array(name.utf8), dimensions: dimensions, type: type, bytes: bytes, offset: offset))
  }

  /// Adds a tensor of fp32; its shape has the dimension that runs fastest last.
  public mutating func addTensor(_ name: String, shape: [Int], _ values: [Float]) {
    addTensor(name, shape.reversed().map { UInt64($0) }, type: 0, Self.bytes(values))
  }

  /// The bytes of the file.
  public func build() -> [UInt8] {
    var file = magic + Self.bytes(version) + Self.bytes(promisedTensors ?? UInt64(tensors.count))
    file += Self.bytes(promisedEntries ?? UInt64(entries.count))
    for entry in entries { file += entry }
    var data: [UInt8] = []
    for tensor in tensors {
      while data.count % alignment != 0 { data.append(0) }
      file += Self.bytes(UInt64(tensor.name.count)) + tensor.name + Self.bytes(UInt32(tensor.dimensions.count))
      for dimension in tensor.dimensions { file += Self.bytes(dimension) }
      file += Self.bytes(tensor.type) + Self.bytes(tensor.offset ?? UInt64(data.count))
      data += tensor.bytes
    }
    if !tensors.isEmpty { while file.count % alignment != 0 { file.append(0) } }
    return file + data
  }
}

extension GGUFBuilder {
  /// A whole Llama with tiny weights drawn from a seed.
  ///
  /// Two blocks of width 8 with 2 heads, 1 of them for keys and values, 16 within the feed-forward block, 12 tokens.
  public static func tinyLlama(seed: UInt64 = 1) -> GGUFBuilder {
    var builder = GGUFBuilder()
    builder.add("general.architecture", "llama")
    builder.add("llama.block_count", UInt32(2))
    builder.add("llama.context_length", UInt32(64))
    builder.add("llama.embedding_length", UInt32(8))
    builder.add("llama.feed_forward_length", UInt32(16))
    builder.add("llama.attention.head_count", UInt32(2))
    builder.add("llama.attention.head_count_kv", UInt32(1))
    builder.add("llama.attention.layer_norm_rms_epsilon", Float(1e-5))
    builder.add("llama.rope.freq_base", Float(10000))
    builder.add("tokenizer.ggml.model", "gpt2")
    builder.add("tokenizer.ggml.tokens", (0..<12).map { "t\($0)" })
    builder.add("tokenizer.ggml.bos_token_id", UInt32(1))
    builder.add("tokenizer.ggml.eos_token_id", UInt32(2))
    builder.add("tokenizer.ggml.add_bos_token", true)
    var random = SeededRandom(seed: seed)
    func tensor(_ name: String, _ shape: [Int]) {
      let values = (0..<shape.reduce(1, *)).map { _ in Float.random(in: -0.5..<0.5, using: &random) }
      builder.addTensor(name, shape: shape, values)
    }
    tensor("token_embd.weight", [12, 8])
    for block in 0..<2 {
      tensor("blk.\(block).attn_norm.weight", [8])
      tensor("blk.\(block).attn_q.weight", [8, 8])
      tensor("blk.\(block).attn_k.weight", [4, 8])
      tensor("blk.\(block).attn_v.weight", [4, 8])
      tensor("blk.\(block).attn_output.weight", [8, 8])
      tensor("blk.\(block).ffn_norm.weight", [8])
      tensor("blk.\(block).ffn_gate.weight", [16, 8])
      tensor("blk.\(block).ffn_up.weight", [16, 8])
      tensor("blk.\(block).ffn_down.weight", [8, 16])
    }
    tensor("output_norm.weight", [8])
    return builder
  }
}

/// Random numbers that are the same in every run (SplitMix64).
public struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  /// Starts a sequence.
  public init(seed: UInt64) { state = seed }

  /// The next number.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
