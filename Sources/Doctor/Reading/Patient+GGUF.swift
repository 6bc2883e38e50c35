import JSONValues
import ModelFiles
import Tokenization

extension Patient {
  /// Reads a GGUF.
  ///
  /// - Parameters:
  ///   - gguf: The file.
  ///   - tokenizer: The file's tokenizer, where it is loaded already.
  ///   - chatTemplate: What stands for the file's own templates.
  init(gguf: GGUFFile, tokenizer loaded: Tokenizer? = nil, chatTemplate: ChatTemplate? = nil) {
    path = gguf.path
    kind = .gguf(gguf)
    let metadata = gguf.metadata
    readClaims(metadata)
    if let chatTemplate { templates = [Template(chatTemplate)] } else { readTemplates(metadata) }
    readTokens(metadata)
    tokenizer = loaded ?? readTokenizer(gguf)
    if let prefix = tokenizer?.encode("a").first, let bos = tokenizer?.bosTokenID {
      addsBOS = prefix == bos && tokenizer?.encode("a", addSpecialTokens: false).first != bos
    }
    embedding = gguf.tensor("token_embd.weight")
    head = gguf.tensor("output.weight")
  }

  private mutating func readTemplates(_ metadata: GGUFMetadata) {
    for name in [ChatTemplates.standardName] + GGUFTokenizerMetadata.chatTemplateNames(metadata) {
      let key = GGUFTokenizerMetadata.chatTemplateKey(name)
      guard let value = metadata[key] else { continue }
      if let source = value.string {
        templates.append(Template(ChatTemplateSource(name: name, place: .metadata(key), source: source)))
      } else {
        wrongType(key, value, "string")
      }
    }
  }

  private mutating func wrongType(_ key: String, _ value: GGUFValue, _ expected: String) {
    findings.append(
      Finding(
        "wrong-type", .error,
        "An entry of the metadata has a type that no program expects there, so that loading fails.",
        evidence: "\(key) is of type \(value.typeName), \(expected) was expected",
        repair: "Convert the original model again."))
  }

  private mutating func readClaims(_ metadata: GGUFMetadata) {
    for role in SpecialRole.allCases {
      guard let value = metadata[role.metadataKey] else { continue }
      guard let id = value.integer else {
        wrongType(role.metadataKey, value, "uint32")
        continue
      }
      claims.append(Claim(role: role, file: nil, path: [.key(role.metadataKey)], ids: [id]))
    }
  }

  private mutating func readTokens(_ metadata: GGUFMetadata) {
    guard let tokens = metadata["tokenizer.ggml.tokens"]?.array?.strings else { return }
    let types = metadata["tokenizer.ggml.token_type"]?.array?.integers ?? []
    vocabulary.isComplete = true
    for (id, content) in tokens.enumerated() {
      let type = types.indices.contains(id) ? types[id] : 1
      // 2 unknown, 3 control, 4 user-defined, 5 unused.
      vocabulary.add(content, id: id, special: type == 1 || type == 6 ? nil : type != 4)
    }
  }

  private mutating func readTokenizer(_ gguf: GGUFFile) -> Tokenizer? {
    do {
      return try Tokenizer(gguf: GGUFTokenizerMetadata(gguf.metadata, path: gguf.path))
    } catch {
      let isBroken = templates.contains { if case .failure = $0.parsed { true } else { false } }
      if !isBroken, findings.isEmpty {
        findings.append(
          Finding(
            "tokenizer-unusable", .error, "The tokenizer cannot be read, so that no text becomes tokens.",
            evidence: "\(error)".split(whereSeparator: \.isNewline).joined(separator: " "),
            repair: "Convert the original model again, or fetch the file again."))
      }
      return nil
    }
  }
}
