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

  /// The linear layers of the blocks, in the order of the computation.
  public internal(set) var layers: [LinearLayer]
  /// How elements find their codes.
  public internal(set) var rounding = Rounding.nearest
  /// The format that the weights were stored in when they had been quantized before (a GGUF's blocks); quantizing again
  /// loses more than it needs to.
  public let earlierQuantization: StorageFormat?
  /// The choices that were compared by their true KL divergence; empty where none were.
  public internal(set) var finalists: [Finalist] = []
  /// What is quantized.
  public let checkpoint: Checkpoint
  var tensors: [QuantizedTensorPlan]
  private let architecture: String
  private let type: StorageFormat?

  /// Reads a model, a Hugging Face folder or a `.gguf` file, and checks all that can be known before a byte is written.
  public init(of path: String) throws {
    let checkpoint = try Checkpoint.open(path: path)
    self.checkpoint = checkpoint
    try checkpoint.requireWeightsBesideNF4(path)
    let layout = Self.layout(of: checkpoint)
    architecture = try Conversion.architecture(of: checkpoint, in: layout)
    let type = try Conversion.format(.asStored, checkpoint)
    self.type = type
    let places = checkpoint.projectionWeights
    let first = try checkpoint.tensor(TargetModule.down.path(layer: 0) + ".weight").format
    earlierQuantization = first.isFloat ? nil : first
    var layers: [LinearLayer] = []
    tensors = try TensorPlan.all(of: checkpoint, in: layout, as: type).enumerated().map { index, plan in
      let modules = plan.parts.compactMap { places[$0.name] }
      let tensor = QuantizedTensorPlan(plan, isQuantized: modules.count == plan.parts.count && !modules.isEmpty)
      if tensor.isQuantized {
        let byteCount = try tensor.entries().reduce(0) { $0 + ($1.byteCount ?? 0) }
        layers.append(
          LinearLayer(
            name: tensor.moduleName, layer: modules[0].layer, modules: modules.map(\.module),
            parameterCount: plan.entry.shape.reduce(1, *), extraByteCount: tensor.plainByteCount - byteCount,
            tensor: index))
      }
      return tensor
    }
    self.layers = layers
    plainByteCount = try tensors.reduce(0) { try $0 + $1.entries().reduce(0) { $0 + ($1.byteCount ?? 0) } }
  }

  /// Keeps linear layers in 16 bits, as `TargetModule.path(layer:)` names them; of layers that are fused, any one keeps all.
  public mutating func keep(_ names: Set<String>) {
    for index in layers.indices {
      let layer = layers[index]
      let paths = layer.modules.map { $0.path(layer: layer.layer) } + [layer.name]
      layers[index].isKept = paths.contains(where: names.contains)
      tensors[layer.tensor].isQuantized = !layers[index].isKept
    }
  }

  /// Bytes of all tensors when every linear layer is in four bits.
  public let plainByteCount: Int

  /// Bytes of all tensors.
  public var byteCount: Int { plainByteCount + layers.reduce(0) { $0 + ($1.isKept ? $1.extraByteCount : 0) } }

  /// Writes the folder `output`, which must not be there or be empty; it appears whole or not at all.
  /// - Parameters:
  ///   - report: Written beside the weights.
  ///   - onProgress: Receives the bytes of weights written so far; what it throws ends the export.
  @discardableResult
  public func write(
    to output: String, report: QuantizationReport? = nil, onProgress: (_ written: Int) throws -> Void = { _ in }
  ) throws -> Result {
    // Defects of the tokenizer do not travel on.
    let examination = try Examination(of: checkpoint.path, depth: .tokens)
    let folder = ModelFolder(of: checkpoint, examination, architecture: architecture, type: type)
    let files = try folder.write(
      to: output, tensors: tensors.flatMap { try $0.entries() },
      weights: { writer in try tensors.forEachCounted(onProgress) { try $0.write(to: writer, onPiece: $1) } },
      finishing: { json, folder in
        json["quantization_config"] = .object(quantizationConfiguration)
        try report?.write(into: folder)
      })
    return Result(
      byteCount: byteCount, fileNames: files, quantizedCount: tensors.count(where: \.isQuantized),
      kept: layers.filter(\.isKept).map(\.name))
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
      "llm_int8_skip_modules": .array((["lm_head"] + layers.filter(\.isKept).map(\.name)).map { .string($0) }),
      "llm_int8_threshold": 6.0,
      "load_in_4bit": true, "load_in_8bit": false, "quant_method": "bitsandbytes",
    ]
  }
}
