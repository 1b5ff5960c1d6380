// <metal_type_traits>: with address spaces, which decltype and deduction bring into types here as they do in Metal.
#pragma once

namespace metal {

template <class T, T V>
struct integral_constant {
  static constant constexpr const T value = V;
  using value_type = T;
  using type = integral_constant;
  constexpr operator T() const { return V; }
  constexpr T operator()() const { return V; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  using type = T;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool B, class T, class F>
struct conditional {
  using type = T;
};
template <class T, class F>
struct conditional<false, T, F> {
  using type = F;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

template <class T>
struct remove_addrspace {
  using type = T;
};
template <class T>
struct remove_addrspace<device T> {
  using type = T;
};
template <class T>
struct remove_addrspace<constant T> {
  using type = T;
};
template <class T>
struct remove_addrspace<threadgroup T> {
  using type = T;
};
template <class T>
struct remove_addrspace<thread T> {
  using type = T;
};
template <class T>
using remove_addrspace_t = typename remove_addrspace<T>::type;

template <class T>
struct remove_const {
  using type = T;
};
template <class T>
struct remove_const<const T> {
  using type = T;
};
template <class T>
using remove_const_t = typename remove_const<T>::type;
template <class T>
struct remove_volatile {
  using type = T;
};
template <class T>
struct remove_volatile<volatile T> {
  using type = T;
};
template <class T>
using remove_volatile_t = typename remove_volatile<T>::type;
template <class T>
struct remove_cv {
  using type = remove_const_t<remove_volatile_t<T>>;
};
template <class T>
using remove_cv_t = typename remove_cv<T>::type;

// References only exist with an address space, which is the type's that they refer to.
template <class T>
struct remove_reference {
  using type = T;
};
template <class T>
struct remove_reference<device T&> {
  using type = device T;
};
template <class T>
struct remove_reference<constant T&> {
  using type = constant T;
};
template <class T>
struct remove_reference<threadgroup T&> {
  using type = threadgroup T;
};
template <class T>
struct remove_reference<thread T&> {
  using type = thread T;
};
template <class T>
using remove_reference_t = typename remove_reference<T>::type;

template <class T>
struct remove_pointer {
  using type = T;
};
template <class T>
struct remove_pointer<T*> {
  using type = T;
};
template <class T>
using remove_pointer_t = typename remove_pointer<T>::type;

template <class T>
using decay_t = remove_cv_t<remove_addrspace_t<remove_cv_t<remove_reference_t<T>>>>;
template <class T>
struct decay {
  using type = decay_t<T>;
};

template <class T, class U>
struct is_same : bool_constant<__is_same(T, U)> {};
template <class T, class U>
static constant constexpr const bool is_same_v = __is_same(T, U);

template <class From, class To>
struct is_convertible : bool_constant<__is_convertible_to(From, To)> {};
template <class From, class To>
static constant constexpr const bool is_convertible_v = __is_convertible_to(From, To);

template <class T>
struct is_pointer : false_type {};
template <class T>
struct is_pointer<T*> : true_type {};
template <class T>
static constant constexpr const bool is_pointer_v = is_pointer<T>::value;

template <class T>
struct is_const : false_type {};
template <class T>
struct is_const<const T> : true_type {};
template <class T>
static constant constexpr const bool is_const_v = is_const<T>::value;

template <class...>
struct _disjunction : false_type {};
template <class First, class... Rest>
struct _disjunction<First, Rest...> : conditional_t<bool(First::value), true_type, _disjunction<Rest...>> {};
template <class...>
struct _conjunction : true_type {};
template <class First, class... Rest>
struct _conjunction<First, Rest...> : conditional_t<bool(First::value), _conjunction<Rest...>, false_type> {};

template <class T>
struct is_integral
    : _disjunction<is_same<decay_t<T>, bool>, is_same<decay_t<T>, char>, is_same<decay_t<T>, signed char>,
                   is_same<decay_t<T>, uchar>, is_same<decay_t<T>, short>, is_same<decay_t<T>, ushort>,
                   is_same<decay_t<T>, int>, is_same<decay_t<T>, uint>, is_same<decay_t<T>, long>,
                   is_same<decay_t<T>, ulong>> {};
template <class T>
static constant constexpr const bool is_integral_v = is_integral<T>::value;

template <class T>
struct is_floating_point
    : _disjunction<is_same<decay_t<T>, float>, is_same<decay_t<T>, half>, is_same<decay_t<T>, bfloat>> {};
template <class T>
static constant constexpr const bool is_floating_point_v = is_floating_point<T>::value;

template <class T>
struct is_arithmetic : bool_constant<is_integral_v<T> || is_floating_point_v<T>> {};
template <class T>
static constant constexpr const bool is_arithmetic_v = is_arithmetic<T>::value;

template <class T, bool = is_arithmetic_v<T>>
struct is_signed : false_type {};
template <class T>
struct is_signed<T, true> : bool_constant<(decay_t<T>(-1) < decay_t<T>(0))> {};
template <class T>
static constant constexpr const bool is_signed_v = is_signed<T>::value;
template <class T>
struct is_unsigned : bool_constant<is_integral_v<T> && !is_signed_v<T>> {};
template <class T>
static constant constexpr const bool is_unsigned_v = is_unsigned<T>::value;

template <class T>
struct make_unsigned {
  using type = T;
};
template <>
struct make_unsigned<char> {
  using type = uchar;
};
template <>
struct make_unsigned<signed char> {
  using type = uchar;
};
template <>
struct make_unsigned<short> {
  using type = ushort;
};
template <>
struct make_unsigned<int> {
  using type = uint;
};
template <>
struct make_unsigned<long> {
  using type = ulong;
};
template <class T>
using make_unsigned_t = typename make_unsigned<T>::type;

template <class T>
struct make_signed {
  using type = T;
};
template <>
struct make_signed<uchar> {
  using type = char;
};
template <>
struct make_signed<ushort> {
  using type = short;
};
template <>
struct make_signed<uint> {
  using type = int;
};
template <>
struct make_signed<ulong> {
  using type = long;
};
template <class T>
using make_signed_t = typename make_signed<T>::type;

template <class T>
T declval() noexcept;

}  // namespace metal
