import Glibc
import JSONValues
import ModelFiles
import Tokenization

extension Patient {
  /// The JSON files of a folder that say something of tokens.
  static let fileNames = [
    "tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json", "added_tokens.json",
    "chat_template.json",
  ]

  /// Files of which at least one makes a tokenizer, alone or with its partner.
  static let tokenizerNames = ["tokenizer.json", "tokenizer.model", "vocab.json"]

  /// Reads a Hugging Face folder.
  ///
  /// - Parameters:
  ///   - folder: The model's folder.
  ///   - tokenizer: The folder's tokenizer, where it is loaded already.
  ///   - chatTemplate: What stands for the folder's own templates.
  init(folder: String, tokenizer loaded: Tokenizer? = nil, chatTemplate: ChatTemplate? = nil) {
    path = folder
    kind = .folder
    for name in Self.fileNames { files[name] = JSONFile(name, in: folder, &findings) }
    readClaims()
    if let chatTemplate { templates = [Template(chatTemplate)] } else { readTemplates(folder) }
    tokenizer = loaded ?? readTokenizer(folder)
    if let tokenizer { vocabulary = Vocabulary(tokenizer) } else { readVocabulary(folder) }
    let config = files["config.json"]?.value
    promisedRows = (config?["vocab_size"] ?? config?["text_config"]?["vocab_size"])?.integer.flatMap {
      $0 > 0 ? $0 : nil
    }
    if let tokenizer, let bos = tokenizer.bosTokenID {
      // What the post-processor puts before a text.
      addsBOS = tokenizer.encode("a").first == bos && tokenizer.encode("a", addSpecialTokens: false).first != bos
    }
  }

  fileprivate func exists(_ name: String, _ folder: String) -> Bool { access(folder + "/" + name, F_OK) == 0 }

  private mutating func wrongType(_ file: String, _ key: String, _ value: JSONValue, _ expected: String) {
    findings.append(wrongType(file, "\(key) is \(value.kind), \(expected) was expected", expected))
  }

  private func wrongType(_ file: String, _ message: String, _ expected: String) -> Finding {
    Finding(
      "wrong-type", .error, "A value of \(file) has a type that no program expects there, so that loading fails.",
      evidence: "\(file): \(message)", repair: "Write \(expected) there, or remove the key.")
  }

  private mutating func readClaims() {
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
      for role in SpecialRole.allCases {
        guard let value = value(file, role.tokenKey), !value.isNull else { continue }
        if let content = value.string {
          claims.append(Claim(role: role, file: file, path: [.key(role.tokenKey)], content: content))
        } else if let content = value["content"]?.string {
          claims.append(Claim(role: role, file: file, path: [.key(role.tokenKey), "content"], content: content))
        } else {
          wrongType(file, role.tokenKey, value, "a string or an object with \"content\"")
        }
      }
    }
    for file in ["generation_config.json", "config.json"] {
      for role in SpecialRole.allCases {
        guard let value = value(file, role.idKey), !value.isNull else { continue }
        let values = value.array ?? [value]
        let ids = values.compactMap(\.integer)
        guard ids.count == values.count, role == .eos || value.array == nil else {
          wrongType(file, role.idKey, value, role == .eos ? "an integer or a list of integers" : "an integer")
          continue
        }
        claims.append(Claim(role: role, file: file, path: [.key(role.idKey)], ids: ids))
      }
    }
  }

  // MARK: Templates

  private mutating func readTemplates(_ folder: String) {
    let found = ChatTemplateSource.find(in: folder, configuration: files["tokenizer_config.json"]?.value)
    templates = found.sources.map { Template($0) }
    for defect in found.defects {
      findings.append(
        defect.key == nil
          ? Finding(
            "file-unreadable", .error, "\(defect.file) cannot be read, so that conversations cannot be laid out.",
            evidence: "\(defect.file): \(defect.message)", repair: "Fetch the file again.")
          : wrongType(defect.file, defect.message, defect.expected))
    }
  }

  // MARK: Tokens

  private mutating func readTokenizer(_ folder: String) -> Tokenizer? {
    do {
      return try Tokenizer(folder: folder)
    } catch {
      let isBroken = templates.contains { if case .failure = $0.parsed { true } else { false } }
      if !Self.tokenizerNames.contains(where: { exists($0, folder) }) {
        findings.append(
          Finding(
            "tokenizer-missing", .note,
            "There is no tokenizer here, so that only what the configuration says of its tokens was looked at.",
            evidence: "none of \(Self.tokenizerNames.joined(separator: ", ")) is in the folder",
            repair: "Put the model's tokenizer.json beside these files."))
      } else if !isBroken, findings.isEmpty {
        findings.append(
          Finding(
            "tokenizer-unusable", .error, "The tokenizer cannot be read, so that no text becomes tokens.",
            evidence: "\(error)".split(whereSeparator: \.isNewline).joined(separator: " "),
            repair: "Fetch the tokenizer's files again."))
      }
      return nil
    }
  }

  /// What the files say of tokens where they make no tokenizer.
  private mutating func readVocabulary(_ folder: String) {
    var unused: [Finding] = []
    if let json = JSONFile("tokenizer.json", in: folder, &unused)?.value {
      for (content, id) in json["model"]?["vocab"]?.object ?? [:] {
        if let id = id.integer { vocabulary.add(content, id: id) }
      }
      vocabulary.isComplete = vocabulary.highestID >= 0
      for token in json["added_tokens"]?.array ?? [] {
        guard let content = token["content"]?.string, let id = token["id"]?.integer else { continue }
        vocabulary.add(content, id: id, special: token["special"]?.bool ?? false)
      }
    } else if let json = JSONFile("vocab.json", in: folder, &unused)?.value {
      for (content, id) in json.object ?? [:] {
        if let id = id.integer { vocabulary.add(content, id: id) }
      }
    }
    for (key, token) in value("tokenizer_config.json", "added_tokens_decoder")?.object ?? [:] {
      guard let id = Int(key), let content = token["content"]?.string else { continue }
      vocabulary.add(content, id: id, special: token["special"]?.bool ?? false)
    }
    for (content, id) in files["added_tokens.json"]?.value.object ?? [:] {
      if let id = id.integer { vocabulary.add(content, id: id, special: true) }
    }
  }

  /// Opens the weights, where there are any.
  mutating func readWeights() {
    guard case .folder = kind else { return }
    let names = ["model.safetensors", "model.safetensors.index.json"]
    guard names.contains(where: { exists($0, path) }) else { return }
    do throws(ModelFileError) {
      let weights = try SafetensorsCheckpoint(folder: path)
      func matrix(_ suffixes: [String]) -> StoredTensor? {
        weights.tensorNames.lazy.filter { name in suffixes.contains { name == $0 || name.hasSuffix("." + $0) } }
          .compactMap(weights.tensor).first { $0.shape.count == 2 }
      }
      embedding = matrix(["embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight"])
      head = matrix(["lm_head.weight", "embed_out.weight"])
    } catch {
      findings.append(
        Finding(
          "weights-unreadable", .error, "The weights cannot be read.", evidence: "\(error)",
          repair: "Fetch the file again."))
    }
  }
}

extension Patient {
  /// Whether the folder has a tokenizer.json.
  var hasTokenizerJSON: Bool { exists("tokenizer.json", path) }

  /// What tokenizer.json holds; it is read anew, since few checks need it and it is large.
  func tokenizerJSON() -> JSONValue? {
    var unused: [Finding] = []
    guard case .folder = kind, hasTokenizerJSON else { return nil }
    return JSONFile("tokenizer.json", in: path, &unused)?.value
  }

  /// The lines of a text file, without empty ones.
  func lines(of name: String) -> [Substring]? {
    guard exists(name, path), let bytes = try? MappedFile.contents(of: path + "/" + name) else { return nil }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
  }
}
