import CYAML
import Training

extension TrainingConfiguration {
  /// Every option as a YAML file that ``YAMLConfiguration`` reads back to an equal configuration.
  public func yaml() throws(YAMLError) -> String {
    var emitter = try YAMLEmitter()
    try emitter.begin()
    for option in TrainingOption.all {
      try emitter.scalar(option.key, isText: false)
      switch option.value(in: self) {
      case nil: try emitter.scalar("null", isText: false)
      case .flag(let on): try emitter.scalar(on ? "true" : "false", isText: false)
      case .plain(let text): try emitter.scalar(text, isText: false)
      case .text(let text): try emitter.scalar(text, isText: true)
      case .texts(let texts): try emitter.list(texts)
      }
    }
    return try emitter.end()
  }
}

/// libyaml's emitter writing one flat mapping into memory.
private struct YAMLEmitter: ~Copyable {
  private final class Output { var bytes: [UInt8] = [] }

  // libyaml keeps pointers into the emitter: its address must not change.
  private let emitter: UnsafeMutablePointer<yaml_emitter_t>
  private let output = Output()

  init() throws(YAMLError) {
    emitter = .allocate(capacity: 1)
    emitter.initialize(to: yaml_emitter_t())
    guard yaml_emitter_initialize(emitter) == 1 else { throw Self.outOfMemory }
    yaml_emitter_set_unicode(emitter, 1)
    yaml_emitter_set_width(emitter, -1)
    yaml_emitter_set_output(
      emitter,
      { context, bytes, count in
        guard let context, let bytes else { return 0 }
        Unmanaged<Output>.fromOpaque(context).takeUnretainedValue().bytes += UnsafeBufferPointer(
          start: bytes, count: count)
        return 1
      }, Unmanaged.passUnretained(output).toOpaque())
  }

  deinit {
    yaml_emitter_delete(emitter)
    emitter.deallocate()
  }

  mutating func begin() throws(YAMLError) {
    try emit { yaml_stream_start_event_initialize(&$0, YAML_UTF8_ENCODING) }
    try emit { yaml_document_start_event_initialize(&$0, nil, nil, nil, 1) }
    try emit { yaml_mapping_start_event_initialize(&$0, nil, nil, 1, YAML_BLOCK_MAPPING_STYLE) }
  }

  mutating func end() throws(YAMLError) -> String {
    try emit { yaml_mapping_end_event_initialize(&$0) }
    try emit { yaml_document_end_event_initialize(&$0, 1) }
    try emit { yaml_stream_end_event_initialize(&$0) }
    return String(decoding: output.bytes, as: UTF8.self)
  }

  /// A text that another reader could take for a number, a truth value or null is quoted.
  mutating func scalar(_ text: String, isText: Bool) throws(YAMLError) {
    let style = isText && looksTyped(text) ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE
    var bytes = Array(text.utf8)
    let count = Int32(clamping: bytes.count)
    try emit { event in
      bytes.withUnsafeMutableBufferPointer { buffer in
        // An empty array may have no address, which libyaml would take for a missing value.
        var empty: UInt8 = 0
        return withUnsafeMutablePointer(to: &empty) {
          yaml_scalar_event_initialize(&event, nil, nil, buffer.baseAddress ?? $0, count, 1, 1, style)
        }
      }
    }
  }

  mutating func list(_ texts: [String]) throws(YAMLError) {
    try emit { yaml_sequence_start_event_initialize(&$0, nil, nil, 1, YAML_FLOW_SEQUENCE_STYLE) }
    for text in texts { try scalar(text, isText: true) }
    try emit { yaml_sequence_end_event_initialize(&$0) }
  }

  /// Emits the event that `make` fills in; libyaml frees it, also when it fails.
  private func emit(_ make: (inout yaml_event_t) -> Int32) throws(YAMLError) {
    var event = yaml_event_t()
    guard make(&event) == 1 else { throw Self.outOfMemory }
    guard yaml_emitter_emit(emitter, &event) == 1 else {
      let problem = emitter.pointee.problem.map { String(cString: $0) } ?? "no reason given"
      throw YAMLError(file: "configuration", line: nil, message: "cannot be written as YAML: \(problem)")
    }
  }

  private static var outOfMemory: YAMLError {
    YAMLError(file: "configuration", line: nil, message: "cannot be written as YAML: memory is full")
  }
}

private func looksTyped(_ text: String) -> Bool {
  let words = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf", "-.inf"]
  return words.contains(text.lowercased()) || Double(text) != nil || text.first.map { $0.isNumber } == true
}
