/// Sorts the tensors of an adapter's file into pairs, checking each on the way.
struct AdapterReader {
  let path: String
  let rank: Int
  let model: ModelConfiguration?
  private var a: [Key: StoredTensor] = [:]
  private var b: [Key: StoredTensor] = [:]

  private struct Key: Hashable, Comparable {
    var layer: Int
    /// Place among `AdapterFile.projections`.
    var projection: Int

    var name: String { "layer \(layer)'s \(AdapterFile.projections[projection].name)" }
    static func < (left: Key, right: Key) -> Bool { (left.layer, left.projection) < (right.layer, right.projection) }
  }

  init(path: String, rank: Int, model: ModelConfiguration?) {
    self.path = path
    self.rank = rank
    self.model = model
  }

  /// Takes in a tensor of the file.
  mutating func add(_ tensor: StoredTensor) throws(ModelFileError) {
    let (key, isB) = try place(tensor.name)
    guard tensor.format.isDecodable else {
      throw wrong(tensor, "is stored as \(tensor.format.name); save the adapter in fp32, fp16 or bf16")
    }
    guard tensor.shape.count == 2, tensor.shape[isB ? 1 : 0] == rank else {
      let expected = isB ? "[output width, \(rank)]" : "[\(rank), input width]"
      throw wrong(tensor, "has the shape \(tensor.shape); r = \(rank) asks for \(expected)")
    }
    if let model {
      guard key.layer < model.layerCount else {
        throw wrong(tensor, "is of layer \(key.layer); the model has \(model.layerCount) layers")
      }
      if let (input, output) = model.projectionShape(AdapterFile.projections[key.projection].name) {
        let expected = isB ? [output, rank] : [rank, input]
        guard tensor.shape == expected else {
          throw wrong(tensor, "has the shape \(tensor.shape); the model asks for \(expected)")
        }
      }
    }
    let known = isB ? b[key] : a[key]
    guard known == nil else { throw wrong(tensor, "stands for the same matrix as \(quoted(known?.name ?? ""))") }
    if isB { b[key] = tensor } else { a[key] = tensor }
  }

  /// The pairs in order; one half without the other is an error, and so is none at all.
  func pairs() throws(ModelFileError) -> [AdapterFile.Pair] {
    var pairs: [AdapterFile.Pair] = []
    for key in Set(a.keys).union(b.keys).sorted() {
      guard let a = a[key] else { throw ModelFileError(path, "lora_A of \(key.name) is missing") }
      guard let b = b[key] else { throw ModelFileError(path, "lora_B of \(key.name) is missing") }
      pairs.append(
        .init(layer: key.layer, projection: AdapterFile.projections[key.projection].name, a: a, b: b))
    }
    if pairs.isEmpty { throw ModelFileError(path, "the adapter has no tensors") }
    return pairs
  }

  /// Every projection that the configuration lists must have its pairs, in every layer that has any.
  func requireListed(
    _ configuration: AdapterConfiguration, _ pairs: [AdapterFile.Pair]
  ) throws(ModelFileError) {
    let layers: [Int]
    if let listed = configuration.layers {
      layers = listed
    } else if let model {
      layers = Array(0..<model.layerCount)
    } else {
      layers = Set(pairs.map(\.layer)).sorted()
    }
    for name in configuration.targetModules {
      guard let projection = AdapterFile.projections.firstIndex(where: { $0.name == name }) else { continue }
      for layer in layers where a[Key(layer: layer, projection: projection)] == nil {
        throw ModelFileError(path, "`target_modules` lists \(name), but layer \(layer) has no tensors for it")
      }
    }
  }

  /// Layer, projection and half that a name stands for.
  private func place(_ name: String) throws(ModelFileError) -> (Key, isB: Bool) {
    func wrong(_ message: String) -> ModelFileError { ModelFileError(path, "tensor \(quoted(name)) \(message)") }
    guard name.hasPrefix(AdapterFile.prefix) else {
      throw wrong("is none of a PEFT adapter: its name must start with \"\(AdapterFile.prefix)\"")
    }
    var parts = name.dropFirst(AdapterFile.prefix.count).split(separator: ".", omittingEmptySubsequences: false)
    for (fused, split) in [("qkv_proj", "q_proj, k_proj and v_proj"), ("gate_up_proj", "gate_proj and up_proj")]
    where parts.contains(Substring(fused)) {
      throw wrong(
        "belongs to the fused layout (\(fused)), where \(split) share one A; this model has them apart, so the adapter "
          + "must be converted, or trained on this layout")
    }
    // "weight", and before it the adapter's name where a state dictionary was saved as it was.
    guard parts.popLast() == "weight" else { throw wrong("is none of a LoRA adapter") }
    if parts.last == "default" { parts.removeLast() }
    let half = parts.popLast()
    guard half == "lora_A" || half == "lora_B" else {
      throw wrong("is none of a LoRA adapter: expected lora_A.weight or lora_B.weight at its end")
    }
    guard parts.count == 5, parts[0] == "model", parts[1] == "layers", let layer = Int(parts[2]), layer >= 0,
      String(layer) == parts[2],
      let projection = AdapterFile.projections.firstIndex(where: { $0.part == parts[3] && $0.name == parts[4] })
    else {
      let known = AdapterFile.projections.map(\.name).joined(separator: ", ")
      throw wrong("adapts \(quoted(parts.joined(separator: "."))); only \(known) of a layer can have an adapter")
    }
    return (Key(layer: layer, projection: projection), half == "lora_B")
  }

  private func wrong(_ tensor: StoredTensor, _ message: String) -> ModelFileError {
    ModelFileError(path, "tensor \(quoted(tensor.name)) \(message)")
  }
}
