import Doctor
import Export
import JSONValues
import ModelFiles

/// Writes a model in four bits as transformers with bitsandbytes stores it: the linear layers of its blocks in NF4 with
/// double quantization, everything else in 16 bits.
///
/// ```swift
/// let export = try BitsAndBytesExport(of: "phi-4")
/// try export.write(to: "phi-4-nf4")
/// ```
///
/// The weights stream through, so that memory stays far below the checkpoint's size. A model keeps its layout: Phi-3's
/// fused matrices are quantized as they are.
public struct BitsAndBytesExport: Sendable {
  /// What was written.
  public struct Result: Sendable {
    /// Bytes of all tensors.
    public let byteCount: Int
    /// The files that hold them.
    public let fileNames: [String]
    /// Linear layers in four bits.
    public let quantizedCount: Int
    /// Linear layers of the blocks that stay in 16 bits.
    public let kept: [String]
  }

  /// Bytes of all tensors.
  public let byteCount: Int
  /// The format that the weights were stored in when they had been quantized before (a GGUF's blocks); quantizing again
  /// loses more than it needs to.
  public let earlierQuantization: StorageFormat?
  private let checkpoint: Checkpoint
  private let architecture: String
  private let type: StorageFormat?
  private let tensors: [QuantizedTensorPlan]
  private let kept: [String]

  /// Reads a model and checks all that can be known before a byte is written.
  ///
  /// - Parameters:
  ///   - path: A Hugging Face folder or a `.gguf` file.
  ///   - kept: Linear layers to keep in 16 bits, as `TargetModule.path(layer:)` names them; of layers that are fused, any
  ///     one keeps all.
  public init(of path: String, keeping kept: Set<String> = []) throws {
    let checkpoint = try Checkpoint.open(path: path)
    self.checkpoint = checkpoint
    if let tensor = try checkpoint.tensorNames.lazy.map({ try checkpoint.tensor($0) }).first(where: { $0.nf4 != nil }) {
      throw ModelFileError(
        path,
        "this model is quantized already (\(tensor.name) is stored as NF4); give the one with the original weights")
    }
    let layout = Self.layout(of: checkpoint)
    architecture = try Conversion.architecture(of: checkpoint, in: layout)
    let type = try Conversion.format(.asStored, checkpoint)
    self.type = type
    let linear = Set(
      (0..<checkpoint.configuration.layerCount).flatMap { layer in
        TargetModule.allCases.map { $0.path(layer: layer) + ".weight" }
      })
    let first = try checkpoint.tensor(TargetModule.down.path(layer: 0) + ".weight").format
    earlierQuantization = first.isFloat ? nil : first
    var keptNames: [String] = []
    tensors = try TensorPlan.all(of: checkpoint, in: layout, as: type).map { plan in
      let names = plan.parts.map(\.name)
      guard names.allSatisfy(linear.contains) else { return QuantizedTensorPlan(plan, isQuantized: false) }
      let isKept = names.contains { kept.contains(String($0.dropLast(".weight".count))) }
      if isKept { keptNames.append(String(plan.entry.name.dropLast(".weight".count))) }
      return QuantizedTensorPlan(plan, isQuantized: !isKept)
    }
    self.kept = keptNames
    byteCount = try tensors.reduce(0) { try $0 + $1.entries().reduce(0) { $0 + ($1.byteCount ?? 0) } }
  }

  /// Writes the folder `output`, which must not be there or be empty; it appears whole or not at all.
  /// - Parameter onProgress: receives the bytes of weights written so far; what it throws ends the export.
  @discardableResult
  public func write(to output: String, onProgress: (_ written: Int) throws -> Void = { _ in }) throws -> Result {
    var files: [String] = []
    try AtomicFolder.make(output) { folder in
      // Defects of the tokenizer do not travel on.
      let carried = try CarriedFiles(of: checkpoint, Examination(of: checkpoint.path, depth: .tokens))
      var json = try carried.model.json(
        as: architecture, original: carried.configuration, storedAs: type)
      json["quantization_config"] = .object(quantizationConfiguration)
      let writer = try ShardedSafetensorsWriter(folder: folder, tensors: tensors.flatMap { try $0.entries() })
      files = writer.fileNames
      try writeAtomically(carried.files, into: folder)
      var written = 0
      for tensor in tensors {
        try tensor.write(to: writer) { count in
          written += count
          try onProgress(written)
        }
      }
      try writer.finish()
      try writeAtomically(JSONValue.object(json).serialized(pretty: true) + "\n", to: "\(folder)/config.json")
      // What cannot be opened again must not get the name.
      _ = try Checkpoint.open(path: folder)
    }
    return Result(
      byteCount: byteCount, fileNames: files, quantizedCount: tensors.count(where: \.isQuantized), kept: kept)
  }

  /// The layout that a model has; a GGUF's becomes a Llama's where that expresses it.
  private static func layout(of checkpoint: Checkpoint) -> Conversion.Layout {
    switch checkpoint.tokenizerSource {
    case .folder: checkpoint.configuration.architecture == "Phi3ForCausalLM" ? .phi3 : .llama
    case .gguf:
      checkpoint.configuration.architecture == "Phi3ForCausalLM" && checkpoint.configuration.reasonAgainstLlama != nil
        ? .phi3 : .llama
    }
  }

  /// What transformers needs to know to load the weights.
  private var quantizationConfiguration: JSONObject {
    let format = tensors.first(where: \.isQuantized)?.originalFormat ?? .bfloat16
    let names: [StorageFormat: String] = [.bfloat16: "bfloat16", .float16: "float16", .float32: "float32"]
    return [
      "_load_in_4bit": true, "_load_in_8bit": false,
      "bnb_4bit_compute_dtype": .string(names[format] ?? "bfloat16"), "bnb_4bit_quant_storage": "uint8",
      "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true, "llm_int8_enable_fp32_cpu_offload": false,
      "llm_int8_has_fp16_weight": false,
      "llm_int8_skip_modules": .array((["lm_head"] + kept).map { .string($0) }), "llm_int8_threshold": 6.0,
      "load_in_4bit": true, "load_in_8bit": false, "quant_method": "bitsandbytes",
    ]
  }
}
