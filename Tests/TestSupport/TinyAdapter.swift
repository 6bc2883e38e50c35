import Glibc
import JSONValues

/// A LoRA adapter in PEFT's files whose values are drawn from a seed.
public struct TinyAdapter: Sendable {
  /// One pair: the path of its matrix, such as "model.layers.0.mlp.up_proj", with A and B.
  public struct Pair: Sendable {
    /// The path of the matrix.
    public var path: String
    /// The size of the matrix.
    public var outputs: Int
    /// The size of the matrix.
    public var inputs: Int
    /// `[rank, inputs]`.
    public var a: [Float]
    /// `[outputs, rank]`.
    public var b: [Float]
    /// DoRA's lengths of the rows, `[outputs]`; nil without.
    public var magnitudes: [Float]?
  }

  /// The keys of `adapter_config.json` that count; others may be added.
  public var config: JSONObject
  /// The pairs.
  public var pairs: [Pair]
  /// Columns of every B.
  public let rank: Int

  /// Draws pairs for matrices, uniform in ±`bound`.
  public init(
    _ matrices: [(path: String, outputs: Int, inputs: Int)], rank: Int, alpha: Double, seed: UInt64 = 1,
    bound: Float = 1
  ) {
    var random = SeededRandom(seed: seed)
    func draw(_ count: Int) -> [Float] {
      (0..<count).map { _ in (Float(random.next() >> 40) / 8_388_608 - 1) * bound }
    }
    pairs = matrices.map {
      Pair(path: $0.path, outputs: $0.outputs, inputs: $0.inputs, a: draw(rank * $0.inputs), b: draw($0.outputs * rank))
    }
    self.rank = rank
    config = ["peft_type": "LORA", "task_type": "CAUSAL_LM", "r": .integer(rank), "lora_alpha": .number(alpha)]
  }

  /// Gives every pair magnitudes (DoRA), uniform in a range.
  public mutating func addMagnitudes(_ range: ClosedRange<Float>, seed: UInt64 = 7) {
    var random = SeededRandom(seed: seed)
    config["use_dora"] = true
    for index in pairs.indices {
      pairs[index].magnitudes = (0..<pairs[index].outputs).map { _ in
        range.lowerBound + Float(random.next() >> 40) / 16_777_216 * (range.upperBound - range.lowerBound)
      }
    }
  }

  /// scale · B · A of a matrix.
  public func product(_ path: String, scale: Double) -> [Double]? {
    pairs.first { $0.path == path }.map { pair in
      (0..<pair.outputs * pair.inputs).map { index in
        let (row, column) = (index / pair.inputs, index % pair.inputs)
        return scale
          * (0..<rank).reduce(0.0) {
            $0 + Double(pair.b[row * rank + $1]) * Double(pair.a[$1 * pair.inputs + column])
          }
      }
    }
  }

  /// Writes `adapter_config.json` and `adapter_model.safetensors` into a folder, which is made.
  public func write(to folder: TemporaryFolder, _ name: String) throws {
    if mkdir("\(folder.path)/\(name)", 0o777) != 0, errno != EEXIST {
      throw TemporaryFolderError(message: "cannot make \(folder.path)/\(name)")
    }
    var header = JSONObject()
    var data: [UInt8] = []
    for pair in pairs {
      for (part, shape, values) in [
        ("A.weight", [rank, pair.inputs], pair.a), ("B.weight", [pair.outputs, rank], pair.b),
        ("magnitude_vector", [pair.outputs], pair.magnitudes ?? []),
      ] where !values.isEmpty {
        let start = data.count
        data += GGUFBuilder.bytes(values)
        header["base_model.model.\(pair.path).lora_\(part)"] = [
          "dtype": "F32", "shape": .array(shape.map { .integer($0) }),
          "data_offsets": [.integer(start), .integer(data.count)],
        ]
      }
    }
    var head = Array(JSONValue.object(header).serialized().utf8)
    while head.count % 8 != 0 { head.append(32) }
    _ = try folder.write("\(name)/adapter_config.json", JSONValue.object(config).serialized(pretty: true))
    _ = try folder.write(
      "\(name)/adapter_model.safetensors", GGUFBuilder.bytes(UInt64(head.count)) + head + data)
  }
}

extension TinyModel {
  /// The linear layers of all blocks as they are stored, with outputs and inputs.
  public var linearLayers: [(path: String, outputs: Int, inputs: Int)] {
    tensors.filter { $0.name.hasSuffix("_proj.weight") }.map {
      (String($0.name.dropLast(".weight".count)), $0.shape[0], $0.shape[1])
    }
  }
}
