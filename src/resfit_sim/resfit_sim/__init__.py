"""MuJoCo twin of Vega; importing this package alone loads neither MuJoCo nor OpenGL."""
