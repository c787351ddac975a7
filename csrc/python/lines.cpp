#include "python/lines.h"

#include <cstring>

#include "core/recording.h"

namespace ts::python {

namespace {

std::string g_package;
constexpr const char* kPrograms[] = {"bench/", "train.py"};  // models and steps, below the package's folder

bool is_users(const char* path) {
  if (std::strncmp(path, g_package.c_str(), g_package.size()) != 0) return true;
  for (const char* program : kPrograms)
    if (std::strncmp(path + g_package.size(), program, std::strlen(program)) == 0) return true;
  return false;
}

// The innermost frame of the user's, and its code. Null where there is none.
std::pair<Ref, Ref> user_frame() {
  if (!Py_IsInitialized() || !PyGILState_Check()) return {};
  PyFrameObject* frame = PyEval_GetFrame();
  Ref held = Ref::share(reinterpret_cast<PyObject*>(frame));
  while (frame) {
    Ref code(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
    const char* path = PyUnicode_AsUTF8(reinterpret_cast<PyCodeObject*>(code.get())->co_filename);
    if (!path) PyErr_Clear();
    if (path && is_users(path)) return {std::move(code), std::move(held)};
    held = Ref(reinterpret_cast<PyObject*>(PyFrame_GetBack(frame)));
    frame = reinterpret_cast<PyFrameObject*>(held.get());
  }
  return {};
}

LineKey find_line() {
  const auto [code, frame] = user_frame();
  if (!code) return {nullptr, 0};
  auto* f = reinterpret_cast<PyFrameObject*>(frame.get());
#if PY_VERSION_HEX >= 0x030B0000
  return {code.get(), PyFrame_GetLasti(f)};  // the instruction, which is known sooner than its line
#else
  return {code.get(), PyFrame_GetLineNumber(f)};
#endif
}

std::string line_hook() {
  const auto [code, frame] = user_frame();
  if (!code) return "?";
  const int line = PyFrame_GetLineNumber(reinterpret_cast<PyFrameObject*>(frame.get()));
  const auto* c = reinterpret_cast<const PyCodeObject*>(code.get());
  return std::string(PyUnicode_AsUTF8(c->co_filename)) + ":" + std::to_string(line) + " in " +
         PyUnicode_AsUTF8(c->co_name);
}

thread_local OneLine* t_line = nullptr;

LineKey line_key() { return t_line ? t_line->key() : find_line(); }

}  // namespace

OneLine::OneLine() : outer_(t_line), frame_(ts::detail::watching() ? PyEval_GetFrame() : nullptr) {
  if (frame_) t_line = this;
}

OneLine::~OneLine() { t_line = outer_; }

LineKey OneLine::key() {
  if (PyEval_GetFrame() != frame_) return find_line();
  if (!known_) key_ = find_line(), known_ = true;
  return key_;
}

PyObject* set_package_folder(PyObject*, PyObject* folder) {
  const char* text = PyUnicode_AsUTF8(folder);
  if (!text) return nullptr;
  g_package = text;
  Py_RETURN_NONE;
}

void init_lines() { set_line_hooks(line_hook, line_key); }

}  // namespace ts::python
