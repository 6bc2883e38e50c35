import JSONValues

/// What `adapter_config.json` says of a LoRA adapter.
public struct AdapterConfiguration: Sendable, Equatable {
  /// Rows of every A, columns of every B, where `rankPattern` has no other.
  public var rank: Int
  /// The adapter's product counts alpha / rank, with rsLoRA alpha / √rank, where `alphaPattern` has no other.
  public var alpha: Double
  /// Modules with a rank of their own.
  public var rankPattern: ModulePattern<Int> = [:]
  /// Modules with an alpha of their own.
  public var alphaPattern: ModulePattern<Double> = [:]
  /// Probability that an adapter's input was dropped in training.
  public var dropout: Double
  /// Whether the scale is alpha / √rank.
  public var usesRSLoRA: Bool
  /// Whether rows have magnitudes (DoRA).
  public var usesDoRA: Bool
  /// The projections that have an adapter.
  public var targetModules: [String]
  /// Name or path of the model that the adapter was trained on.
  public var baseModel: String?
  /// The layers that have an adapter where not all do.
  public var layers: [Int]?

  /// A configuration; the defaults are those of a run.
  public init(
    rank: Int = 16, alpha: Double = 16, dropout: Double = 0, usesRSLoRA: Bool = false, usesDoRA: Bool = false,
    targetModules: [String] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    baseModel: String? = nil, layers: [Int]? = nil
  ) {
    self.rank = rank
    self.alpha = alpha
    self.dropout = dropout
    self.usesRSLoRA = usesRSLoRA
    self.usesDoRA = usesDoRA
    self.targetModules = targetModules
    self.baseModel = baseModel
    self.layers = layers
  }

  /// What B·A·x is multiplied with where no pattern says otherwise.
  public var scale: Double { usesRSLoRA ? alpha / Double(rank).squareRoot() : alpha / Double(rank) }

  /// The rank of a module and what its B·A·x is multiplied with; the path is the model's: "model.layers.0.mlp.up_proj".
  func shape(of path: String) -> (rank: Int, scale: Double) {
    let (rank, alpha) = (rankPattern[path] ?? rank, alphaPattern[path] ?? alpha)
    return (rank, usesRSLoRA ? alpha / Double(rank).squareRoot() : alpha / Double(rank))
  }

  /// The name of the file.
  public static let fileName = "adapter_config.json"
}

extension AdapterConfiguration {
  /// Every field that PEFT 0.21 writes for LoRA, in its order.
  public var json: JSONValue {
    .object([
      "alora_invocation_tokens": .null,
      "alpha_pattern": .object(JSONObject(alphaPattern.entries.map { ($0.name, Self.number($0.value)) })),
      "arrow_config": .null, "auto_mapping": .null,
      "base_model_name_or_path": baseModel.map { .string($0) } ?? .null, "bias": "none", "corda_config": .null,
      "ensure_weight_tying": false, "eva_config": .null, "exclude_modules": .null, "fan_in_fan_out": false,
      "inference_mode": true, "init_lora_weights": true, "kasa_config": .null, "layer_replication": .null,
      "layers_pattern": .null, "layers_to_transform": layers.map { .array($0.map { .integer($0) }) } ?? .null,
      "loftq_config": [:], "lora_alpha": Self.number(alpha),
      "lora_bias": false, "lora_dropout": .number(dropout), "lora_ga_config": .null, "megatron_config": .null,
      "megatron_core": "megatron.core", "modules_to_save": .null, "monteclora_config": .null, "peft_type": "LORA",
      "peft_version": "0.21.2", "qalora_group_size": 16, "r": .integer(rank),
      "rank_pattern": .object(JSONObject(rankPattern.entries.map { ($0.name, .integer($0.value)) })), "revision": .null,
      "target_modules": .array(targetModules.map { .string($0) }), "target_parameters": .null,
      "task_type": "CAUSAL_LM", "trainable_token_indices": .null, "use_bdlora": .null, "use_dora": .bool(usesDoRA),
      "use_qalora": false, "use_rslora": .bool(usesRSLoRA), "velora_config": .null,
    ])
  }

  /// As Python writes it: a whole number without its point.
  private static func number(_ value: Double) -> JSONValue {
    Int(exactly: value).map { .integer($0) } ?? .number(value)
  }

  /// Reads `adapter_config.json` of a folder; what this program does not compute is refused by the field's name.
  public init(folder: String) throws(ModelFileError) {
    let path = "\(folder)/\(Self.fileName)"
    let file = try MappedFile(path: path)
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(file.bytes, options: JSONParsingOptions(refusesDuplicateKeys: true))
    } catch {
      throw ModelFileError(path, "\(error)")
    }
    try self.init(json, path: path)
  }

  /// Reads the fields; `path` names the file in errors.
  init(_ json: JSONValue, path: String) throws(ModelFileError) {
    guard let object = json.object else { throw ModelFileError(path, "expected an object, this is \(json.kind)") }
    try Self.refuseWhatIsNotComputed(object, path)
    guard let rank = object["r"]?.integer, (1...1 << 20).contains(rank) else {
      throw ModelFileError(path, "`r` must be a whole number of at least 1")
    }
    guard let alpha = object["lora_alpha"]?.double, alpha.isFinite else {
      throw ModelFileError(path, "`lora_alpha` must be a number")
    }
    let dropout = object["lora_dropout"]?.double ?? 0
    guard (0..<1).contains(dropout) else { throw ModelFileError(path, "`lora_dropout` must be from 0 to below 1") }
    self.init(
      rank: rank, alpha: alpha, dropout: dropout, usesRSLoRA: object["use_rslora"]?.bool ?? false,
      usesDoRA: object["use_dora"]?.bool ?? false,
      targetModules: try Self.targetModules(object["target_modules"], path),
      baseModel: object["base_model_name_or_path"]?.string,
      layers: try Self.layers(object["layers_to_transform"], path))
    rankPattern = try ModulePattern("rank_pattern", object["rank_pattern"], path) { value in
      value.integer.flatMap { (1...1 << 20).contains($0) ? $0 : nil }
    }
    alphaPattern = try ModulePattern("alpha_pattern", object["alpha_pattern"], path) { value in
      value.double.flatMap { $0.isFinite ? $0 : nil }
    }
  }

  /// A list of names; a pattern (a string) or none leaves the list empty: the tensors tell.
  private static func targetModules(_ value: JSONValue?, _ path: String) throws(ModelFileError) -> [String] {
    guard let values = value?.array else { return [] }
    var names: [String] = []
    for value in values {
      guard let name = value.string else { throw ModelFileError(path, "`target_modules` must be a list of names") }
      names.append(name)
    }
    return names
  }

  private static func layers(_ value: JSONValue?, _ path: String) throws(ModelFileError) -> [Int]? {
    guard let value, !value.isNull else { return nil }
    if let layer = value.integer { return [layer] }
    let layers = value.array?.compactMap(\.integer)
    guard let layers, layers.count == value.array?.count else {
      throw ModelFileError(path, "`layers_to_transform` must be a layer's number or a list of them")
    }
    // PEFT takes an empty list for all.
    return layers.isEmpty ? nil : layers
  }

  /// Fields that ask for something else than B·A·x, with the reason that the user sees.
  private static func refuseWhatIsNotComputed(_ object: JSONObject, _ path: String) throws(ModelFileError) {
    func refuse(_ field: String, _ reason: String) -> ModelFileError { ModelFileError(path, "`\(field)` \(reason)") }
    let type = object["peft_type"]?.string ?? "missing"
    if type != "LORA" { throw refuse("peft_type", "is \(quoted(type)); only LORA adapters can be loaded") }
    if let task = object["task_type"]?.string, task != "CAUSAL_LM" {
      throw refuse("task_type", "is \(quoted(task)); only adapters of CAUSAL_LM can be loaded")
    }
    if let bias = object["bias"]?.string, bias != "none" {
      throw refuse("bias", "is \(quoted(bias)); adapters with biases cannot be loaded, train with bias \"none\"")
    }
    for (field, meaning) in flags where object[field]?.bool == true {
      throw refuse(field, "is true; \(meaning) cannot be loaded")
    }
    for (field, meaning) in settings {
      switch object[field] {
      case nil, .null, .bool(false): continue
      case .object(let value) where value.isEmpty: continue
      case .array(let value) where value.isEmpty: continue
      default: throw refuse(field, "is set; \(meaning) cannot be loaded")
      }
    }
    // A later method's switch must not pass unseen; numbers and names only matter beside one.
    for (field, value) in object where !knownFields.contains(field) {
      switch value {
      case .bool(true): throw refuse(field, "is true, a setting that is not known here")
      case .object(let value) where !value.isEmpty: throw refuse(field, "is set, which is not known here")
      case .array(let value) where !value.isEmpty: throw refuse(field, "is set, which is not known here")
      default: continue
      }
    }
    if let method = object["init_lora_weights"]?.string?.lowercased(),
      ["pissa", "olora", "corda", "loftq", "lora_ga"].contains(where: { method.hasPrefix($0) })
    {
      throw refuse(
        "init_lora_weights",
        "is \(quoted(method)), which changed the base weights; save the adapter with "
          + "path_initial_model_for_weight_conversion, then load that")
    }
  }

  private static let knownFields = Set(AdapterConfiguration().json.object?.keys ?? [])

  private static let flags: [(String, String)] = [
    ("lora_bias", "adapters with a bias in B"),
    ("use_qalora", "QALoRA adapters"),
  ]

  private static let settings: [(String, String)] = [
    ("modules_to_save", "whole modules beside the adapter"), ("layer_replication", "replicated layers"),
    ("target_parameters", "adapters of bare parameters"), ("trainable_token_indices", "trained token embeddings"),
    ("alora_invocation_tokens", "activated LoRA"), ("use_bdlora", "block-diagonal LoRA"),
    ("arrow_config", "Arrow routing"), ("kasa_config", "KaSA adapters"), ("velora_config", "VeLoRA adapters"),
    ("monteclora_config", "MonteCLoRA adapters"),
  ]
}
